#!/usr/bin/env node
// The program vringd, the toolbox.
import { run } from "./toolbox/cli.ts";

run();
