// The part of Express that the documentation uses, on Node's own HTTP server: PyPI does not have the real one.
// It listens on a free port instead of the requested one, and prints it.
const http = require("node:http");

function express() {
  const routes = new Map();
  return {
    post: (path, ...handlers) => routes.set(path, handlers),
    listen: () => {
      const server = http.createServer((request, response) => serve(routes, request, response));
      server.listen(0, "127.0.0.1", () => console.log(server.address().port));
    },
  };
}

function serve(routes, request, response) {
  request.get = (name) => request.headers[name.toLowerCase()];
  response.sendStatus = (status) => response.writeHead(status).end();
  response.json = (value) => response.end(JSON.stringify(value));
  const handlers = [...(routes.get(request.url) ?? [(_request, missing) => missing.sendStatus(404)])];
  const next = () => handlers.shift()(request, response, next);
  next();
}

express.raw = () => (request, _response, next) => {
  const chunks = [];
  request.on("data", (chunk) => chunks.push(chunk));
  request.on("end", () => {
    request.body = Buffer.concat(chunks);
    next();
  });
};

module.exports = express;
