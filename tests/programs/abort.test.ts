// Who listens to an AbortSignal, also when it has been aborted before.
import assert from "node:assert/strict";
import { test } from "node:test";
import { aborted, onAbort } from "../../host/process/abort.ts";
import { sourcesIn } from "../support/sources.ts";

test("hears of it once: later, or at once", async () => {
  for (const isEarly of [false, true]) {
    const controller = new AbortController();
    let heard = 0;
    if (isEarly) controller.abort();
    onAbort(controller.signal, () => heard++);
    assert.equal(heard, Number(isEarly));
    controller.abort();
    assert.equal(heard, 1);
    await aborted(controller.signal);
  }
});

test("hears nothing any more when it has taken that back", () => {
  const controller = new AbortController();
  onAbort(controller.signal, () => assert.fail())();
  controller.abort();
});

test("does so by that function, wherever it is in the product", () => {
  const listening = /addEventListener\("abort"|once\(\w+, "abort"/;
  const listeners = [...sourcesIn("host")].filter(([, text]) => listening.test(text)).map(([path]) => path);
  assert.deepEqual(listeners, ["host/process/abort.ts"]);
});
