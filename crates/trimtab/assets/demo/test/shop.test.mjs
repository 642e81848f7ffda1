import { test } from "node:test";
import assert from "node:assert/strict";
import { total } from "../src/shop.mjs";

test("a cart adds up", () => assert.equal(total([5, 4]), 900));
test("one item costs its price", () => assert.equal(total([3]), 300));
