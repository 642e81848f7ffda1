// A service that answers; SHOP_MODE-like behaviour is changed by the cases with sed.
import { createServer } from "node:http";

let count = 0;

const server = createServer((request, response) => {
  if (request.url === "/healthz") {
    response.end("ok\n");
    return;
  }
  count += 1;
  response.end("hello\n");
});

process.on("SIGTERM", () => server.close(() => process.exit(0)));
server.listen(Number(process.env.PORT), "127.0.0.1");
