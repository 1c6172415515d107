// Beside index.ts, in the debug build alone: what only a test has to say to the core. That build asserts what neither guest nor
// front-end can bring about, such as that each chain is given back once.

import { allowStray } from "./io/slots.ts";

export { allowStray };
