// The site of the documentation: every document has its page, and no link leads nowhere.
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { after, before, describe, test } from "node:test";
import { promisify } from "node:util";

const out = mkdtempSync(join(tmpdir(), "vringd-site-"));
after(() => rmSync(out, { recursive: true }));

const headingOf = (path: string): string => /^# (.+)$/m.exec(readFileSync(path, "utf8"))![1]!;

/** Of a page: its heading as plain text. */
function headingIn(page: string): string {
  const [, heading] = /<h1[^>]*>(.*?)<\/h1>/s.exec(readFileSync(page, "utf8"))!;
  return heading!.replace(/<[^>]*>/g, "").trim();
}

/** What the page refers to of the site itself. */
function targetsOf(page: string): string[] {
  const html = readFileSync(page, "utf8");
  const targets = [...html.matchAll(/(?:href|src)="([^"#?]+)/g)].map(([, target]) => decodeURI(target!));
  return targets.filter((target) => !/^[a-z]+:/.test(target));
}

describe("the site", () => {
  before(async () => {
    await promisify(execFile)(process.execPath, ["node_modules/typedoc/bin/typedoc", "--out", out]);
  });

  test("has a page for each document", () => {
    const titles = readdirSync(join(out, "documents")).map((name) => headingIn(join(out, "documents", name)));
    const documents = readdirSync("docs").filter((name) => name !== "README.md");
    for (const name of documents) {
      const heading = headingOf(join("docs", name));
      assert.ok(titles.includes(heading), `${name} is missing in typedoc.json`);
    }
  });

  test("has no link that leads nowhere", () => {
    const pages = readdirSync(out, { recursive: true, encoding: "utf8" }).filter((name) =>
      name.endsWith(".html"),
    );
    assert.ok(pages.length > 50);
    for (const page of pages) {
      const path = join(out, page);
      for (const target of targetsOf(path)) {
        assert.ok(existsSync(resolve(dirname(path), target)), `${page} refers to ${target}`);
      }
    }
  });
});
