// How a worker decides between looking at its rings and sleeping.
import assert from "node:assert/strict";
import { beforeEach, describe, test } from "node:test";
import { NEWS_ENTER, NEWS_NONE, NEWS_STEP } from "../../assembly/abi/step.ts";
import type { Core } from "../../host/core/core.ts";
import { Poller } from "../../host/workers/poller.ts";

const MAX_US = 1000;

let news = NEWS_NONE;
let looks = 0;
const core = {
  news: () => {
    looks++;
    return news;
  },
} as unknown as Core;

function spendMs(milliseconds: number): void {
  for (const end = performance.now() + milliseconds; performance.now() < end; );
}

describe("a poller", () => {
  beforeEach(() => {
    news = NEWS_NONE;
    looks = 0;
  });

  test("sleeps at first, and looks once a sleep has been short", () => {
    const poller = new Poller(core, MAX_US);
    assert.equal(poller.isOn, false);
    poller.timed(() => {});
    assert.equal(poller.isOn, true);
  });

  test("never looks where it may not", () => {
    const poller = new Poller(core, 0);
    poller.timed(() => {});
    assert.equal(poller.isOn, false);
  });

  test("says what there is to do", () => {
    const poller = new Poller(core, MAX_US);
    poller.timed(() => {});
    news = NEWS_STEP;
    assert.equal(poller.look(), "step");
    news = NEWS_ENTER;
    assert.equal(poller.look(), "enter");
    assert.equal(looks, 2);
  });

  test("sleeps after it has looked in vain, and then looks again if that sleep was short", () => {
    const poller = new Poller(core, MAX_US);
    poller.timed(() => {});
    assert.equal(poller.look(), "nothing");
    assert.equal(poller.isOn, false);
    poller.timed(() => {});
    assert.equal(poller.isOn, true);
  });

  test("no longer looks after a sleep that was longer than looking would ever be", () => {
    const poller = new Poller(core, MAX_US);
    poller.timed(() => {});
    assert.equal(poller.look(), "nothing");
    poller.timed(() => spendMs((2 * MAX_US) / 1000));
    assert.equal(poller.isOn, false);
    poller.timed(() => spendMs((2 * MAX_US) / 1000));
    assert.equal(poller.isOn, false);
  });

  test("hands on what the sleep gives", () => {
    assert.equal(
      new Poller(core, MAX_US).timed(() => 7),
      7,
    );
  });
});
