// When a front-end is told of a changed config space: never while it waits for a reply, and not within a burst of its requests.
import assert from "node:assert/strict";
import { afterEach, beforeEach, mock, test } from "node:test";
import { ConfigNews } from "../../host/session/config-news.ts";

let told: number;
let isServing: boolean;
let news: ConfigNews;
let nowMs: number;

beforeEach(() => {
  told = 0;
  isServing = false;
  nowMs = 1000;
  mock.timers.enable({ apis: ["setTimeout"] });
  mock.method(performance, "now", () => nowMs);
  news = new ConfigNews(
    () => told++,
    () => isServing,
  );
});

function pass(ms: number): void {
  nowMs += ms;
  mock.timers.tick(ms);
}

afterEach(() => {
  mock.timers.reset();
  mock.restoreAll();
});

test("at once where it is silent", () => {
  news.changed();
  assert.equal(told, 1);
});

test("not while a request is served, and a while after", () => {
  isServing = true;
  news.changed();
  pass(500);
  assert.equal(told, 0);
  isServing = false;
  news.served();
  pass(19);
  assert.equal(told, 0);
  pass(1);
  assert.equal(told, 1);
});

test("not within a burst", () => {
  news.served();
  news.changed();
  for (let i = 0; i < 50; i++) {
    pass(10);
    news.served();
  }
  assert.equal(told, 0);
  pass(20);
  assert.equal(told, 1);
});

test("after a second of one that does not end, between two requests", () => {
  news.served();
  news.changed();
  for (let i = 0; i < 99; i++) {
    pass(10);
    assert.equal(told, 0);
    isServing = true;
    pass(0);
    isServing = false;
    news.served();
  }
  pass(10);
  assert.equal(told, 1);
});

test("once for several changes", () => {
  isServing = true;
  for (let i = 0; i < 5; i++) news.changed();
  isServing = false;
  news.served();
  pass(1000);
  assert.equal(told, 1);
});

test("again at each start of rings, until it has read the space", () => {
  news.changed();
  news.ringStarted();
  news.ringStarted();
  assert.equal(told, 3, "nothing is served, so nothing is waited for");
  news.read();
  news.ringStarted();
  assert.equal(told, 3);
});

test("also if it has read the space before it was told", () => {
  isServing = true;
  news.changed();
  news.read();
  isServing = false;
  news.served();
  pass(20);
  isServing = true;
  news.ringStarted();
  isServing = false;
  news.served();
  assert.equal(told, 1, "within the burst of a start");
  pass(20);
  assert.equal(told, 2);
});

test("no more after the end", () => {
  news.served();
  news.changed();
  news.end();
  pass(1000);
  assert.equal(told, 0);
});
