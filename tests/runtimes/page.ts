// The core in a page: ?file=FILE or ?file=FILE&shared, which needs an isolated page (COOP and COEP).
import { playWith } from "./scenario.ts";

declare const location: { search: string };
declare const document: { body: { textContent: string; dataset: Record<string, string> } };

const query = new URLSearchParams(location.search);
const answer = await fetch(query.get("file")!);
const lines = playWith(await answer.arrayBuffer(), query.has("shared"));
document.body.textContent = (await lines.catch(String).then((told) => [told].flat())).join("\n");
document.body.dataset.state = "done";
