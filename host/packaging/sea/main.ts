// The single executable: both programs, told apart by the name that it was called by.
import { basename } from "node:path";

if (basename(process.argv0) === "vringd") import("../../programs/vringd.ts");
else import("../../programs/vringd-blk.ts");
