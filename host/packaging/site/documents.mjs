// What the site of the documentation calls each document, which is its first heading, and where in the menu it stands.
import { basename } from "node:path";
import { Converter } from "typedoc";

/** Names of files, in the menu's order. A device has a document of its own, which is named here no more than elsewhere. */
const MENU = {
  "Run it": ["recipes", "install", "operate", "migration"],
  Disks: ["disk", "disks", "nbd", "ceph"],
  "Write your own": ["library", "write-a-device", "ABI"],
  "How it works": [
    "ARCHITECTURE",
    "memory",
    "recovery",
    "storage",
    "errors",
    "observability",
    "performance",
    "figures",
  ],
  "Work on it": ["SECURITY", "develop", "decisions", "packaging", "CHANGELOG"],
};

const OTHERS = "Other devices";

/** Throws for a document that has no heading. */
export function load(app) {
  app.converter.on(Converter.EVENT_CREATE_DOCUMENT, (_context, document) => {
    const file = basename(document.name, ".md");
    const heading = /^# (.+)$/m.exec(document.content.map(({ text }) => text).join(""))?.[1];
    if (heading === undefined) throw new Error(`${document.name} has no heading`);
    document.name = heading;
    document.frontmatter.group = Object.keys(MENU).find((name) => MENU[name].includes(file)) ?? OTHERS;
  });
}
