// Low rooms serve programs and the library alike: what can be chosen is called by choice(), so that each reader gets the name
// that it knows, and no option of a command line stands in a sentence there.
import assert from "node:assert/strict";
import { test } from "node:test";
import { allPrograms } from "../../host/devices/index.ts";
import { flagOf } from "../../host/options/option.ts";
import { FRAME_OPTIONS } from "../../host/programs/frame-options.ts";
import { sourcesIn, withoutComments } from "../support/sources.ts";

/** These make command lines, or are one. */
const PROGRAMS = /^host\/(programs|toolbox|command-line|options|packaging)\//;
/** The help of a device's own options may name others of them. */
const OPTIONS = /^host\/devices\/[^/]+\/options\.ts$/;
/** A command to type, of another program. */
const FOREIGN = /qemu-nbd --[^`]*/g;

/** What any program of any vendor is asked by. */
const OF_ALL_PROGRAMS = "--print-capabilities";

const tables = [FRAME_OPTIONS, ...(await allPrograms()).map(({ options }) => options)];
const all = tables.flatMap((table) => Object.keys(table).map(flagOf));
const flags = [...new Set(all)].filter((flag) => flag !== OF_ALL_PROGRAMS);
const FLAG = new RegExp(`(?<![\\w-])(${flags.join("|")})(?![\\w-])`);

test("no room below the programs names an option of a command line in a sentence", () => {
  const files = [...sourcesIn("host")].filter(([path]) => !PROGRAMS.test(path) && !OPTIONS.test(path));
  assert.ok(files.length > 100 && flags.length > 30);
  const wrong = files.flatMap(([path, code]) =>
    withoutComments(code)
      .split("\n")
      .filter((line) => FLAG.test(line.replace(FOREIGN, "")))
      .map((line) => `${path}: ${line.trim()}`),
  );
  assert.deepEqual(wrong, []);
});
