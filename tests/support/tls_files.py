"""Certificates for tests, made on the spot."""

import pathlib
import subprocess

NEW_KEY = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]


class Authority:
    """An authority whose certificate is the file `certificate`, in a folder that gets what it signs."""

    def __init__(self, folder, name="ca"):
        self.folder = pathlib.Path(folder)
        self.folder.mkdir(exist_ok=True)
        self.certificate = self.folder / f"{name}.crt"
        self._key = self.folder / f"{name}.key"
        self._openssl("req", "-x509", *NEW_KEY, "-keyout", self._key, "-out", self.certificate, "-subj",
                      f"/CN=test {name}", "-days", "2")

    def sign(self, name, alternatives="IP:127.0.0.1,DNS:localhost", days=2):
        """(NAME.crt, NAME.key) with these subject alternative names; for less than a day one that has ended."""
        certificate, key = self.folder / f"{name}.crt", self.folder / f"{name}.key"
        request, extensions = self.folder / f"{name}.csr", self.folder / f"{name}.ext"
        extensions.write_text(f"subjectAltName={alternatives}\n")
        self._openssl("req", *NEW_KEY, "-keyout", key, "-out", request, "-subj", f"/CN={name}")
        self._openssl("x509", "-req", "-in", request, "-CA", self.certificate, "-CAkey", self._key,
                      "-CAcreateserial", "-out", certificate, "-days", str(days), "-extfile", extensions)
        return certificate, key

    def _openssl(self, *arguments):
        subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)
