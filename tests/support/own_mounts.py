"""Programs that see file systems of their own, which go with them."""

import subprocess

# With root's rights, else with those of a user namespace.
NAMESPACES = (["unshare", "--mount"], ["unshare", "--mount", "--map-root-user"])


def in_own_mounts(prefix):
    """What is put before a program so that `prefix`, a command that mounts something and then runs what follows
    it, does so for that program alone; None where nobody may mount."""
    for namespace in NAMESPACES:
        tried = subprocess.run([*namespace, *prefix, "true"], check=False, capture_output=True)
        if tried.returncode == 0:
            return [*namespace, *prefix]
    return None
