// A small shop: one page that adds up a cart, and a health check.
import { createServer } from "node:http";
import { cartOf, total } from "./shop.mjs";

let visitor = 0;

const server = createServer(async (request, response) => {
  if (request.url === "/healthz") {
    response.end("ok\n");
    return;
  }
  try {
    const cart = cartOf(visitor++);
    response.setHeader("content-type", "application/json");
    response.end(JSON.stringify({ items: cart.length, total: total(cart) }) + "\n");
  } catch (error) {
    console.error(`checkout failed: ${error.message}`);
    response.statusCode = 500;
    response.end("checkout failed\n");
  }
});

process.on("SIGTERM", () => server.close(() => process.exit(0)));
server.listen(Number(process.env.PORT), "127.0.0.1", () => console.log(`listening on ${process.env.PORT}`));
