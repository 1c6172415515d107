// The entry of the renderer's process, where it is a file of its own.
import { startRenderer } from "./start.ts";

startRenderer();
