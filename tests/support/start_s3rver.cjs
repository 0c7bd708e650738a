// Starts s3rver (npm @20minutes/s3rver), an S3 server that checks signatures:
//   node start_s3rver.cjs DIRECTORY PORT
// Keys S3RVER/S3RVER, bucket "models".  NODE_PATH says where the package is.
const S3rver = require('@20minutes/s3rver');

const [directory, port] = process.argv.slice(2);
const server = new S3rver({
  directory, address: '127.0.0.1', port: Number(port), silent: true,
  configureBuckets: [{name: 'models'}],
});
(async () => {
  await server.configureBuckets();
  server.listen(Number(port), '127.0.0.1');
})();
