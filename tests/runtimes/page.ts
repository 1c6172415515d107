// The core in a page: ?file=FILE, and kind=shared, which needs an isolated page (COOP and COEP), or kind=speed.
import { run } from "./program.ts";

declare const location: { search: string };
declare const document: { body: { textContent: string; dataset: Record<string, string> } };

const query = new URLSearchParams(location.search);
const answer = await fetch(query.get("file")!);
document.body.textContent = await run(await answer.arrayBuffer(), query.get("kind") ?? undefined).catch(
  String,
);
document.body.dataset.state = "done";
