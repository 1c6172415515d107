// The little Markdown that manual pages are written in: "# SECTION", paragraphs, fenced blocks, and terms, which are a
// line that is followed by one with ": " in front. Within lines: `literal` and _name_.

export type Block =
  | { type: "paragraph"; text: string }
  | { type: "literal"; lines: string[] }
  | { type: "term"; term: string; text: string };

export type Prose = Map<string, Block[]>;

export function parseProse(markdown: string): Prose {
  const sections: Prose = new Map();
  let blocks: Block[] = [];
  for (const part of parts(markdown)) {
    const title = /^# (.+)$/.exec(part)?.[1];
    if (title === undefined) blocks.push(blockOf(part));
    else {
      blocks = [];
      sections.set(title, blocks);
    }
  }
  return sections;
}

/** What blank lines divide, except within fences. */
function parts(markdown: string): string[] {
  const pattern = /^```\n[\s\S]*?\n```$|^(?:(?!```).+\n?)+/gm;
  return [...markdown.matchAll(pattern)].map(([part]) => part.trimEnd());
}

function blockOf(part: string): Block {
  if (part.startsWith("```")) return { type: "literal", lines: part.split("\n").slice(1, -1) };
  const [first, ...rest] = part.split("\n");
  if (!rest[0]?.startsWith(": ")) return { type: "paragraph", text: part.replaceAll("\n", " ") };
  return { type: "term", term: first!, text: rest.join(" ").slice(2) };
}
