// Reads documents, each after its length in four bytes, and prints the indices of those that a round trip changes.
const chunks = [];
process.stdin.on('data', (chunk) => chunks.push(chunk));
process.stdin.on('end', () => {
  const input = Buffer.concat(chunks);
  const changed = [];
  let count = 0;
  for (let at = 0; at < input.length; count++) {
    const length = input.readUInt32BE(at);
    const bytes = input.subarray(at + 4, at + 4 + length);
    at += 4 + length;
    let same = false;
    try {
      same = Buffer.from(JSON.stringify(JSON.parse(bytes.toString('utf8'))), 'utf8').equals(bytes);
    } catch (error) {
      same = false;
    }
    if (!same) changed.push(count);
  }
  process.stdout.write(JSON.stringify([count, changed]));
});
