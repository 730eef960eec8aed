// Serves the route handler in the file that is named, as Next.js does: with the Request and Response of the Web.
// It listens on a free port, which it prints; what the handler prints comes after it.
import http from "node:http";
import path from "node:path";
import { pathToFileURL } from "node:url";

const { POST } = await import(pathToFileURL(path.resolve(process.argv[2])));

const server = http.createServer(async (incoming, outgoing) => {
  const chunks = [];
  for await (const chunk of incoming) chunks.push(chunk);
  const request = new Request(`http://${incoming.headers.host}${incoming.url}`, {
    method: "POST",
    headers: incoming.headers,
    body: Buffer.concat(chunks),
  });
  const response = await POST(request);
  outgoing.writeHead(response.status, Object.fromEntries(response.headers));
  outgoing.end(Buffer.from(await response.arrayBuffer()));
});
server.listen(0, "127.0.0.1", () => console.log(server.address().port));
