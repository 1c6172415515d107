// Says little of what passes and all of what fails. Counts for run.mjs.
export const tally = { passed: 0, failed: 0 };

/** Past run.mjs, which silences as-pect's own chatter on standard output. */
const write = process.stdout.write.bind(process.stdout);

function reportFailure(node) {
  write(`  ✖ ${node.name}\n`);
  const [reason, ...stack] = (node.stackTrace ?? "").split("\n");
  if (reason !== "Error: abort") {
    write(`      ${[reason, ...stack].join("\n      ")}\n`);
    return;
  }
  if (node.message) write(`      ${node.message}\n`);
  if (node.actual) write(`      actual    ${node.actual.stringify({ indent: 0 }).trim()}\n`);
  if (node.expected) {
    const not = node.expected.negated ? "not " : "";
    write(`      expected  ${not}${node.expected.stringify({ indent: 0 }).trim()}\n`);
  }
}

export default {
  onEnter() {},

  onExit(_suite, node) {
    // A group passes whatever its tests do; it fails when its own code did, and its tests did not run.
    const hasFailed =
      node.children.length > 0 ? !node.pass && node.children.every((c) => c.pass) : !node.pass;
    if (hasFailed) reportFailure(node);
  },

  onFinish(suite) {
    const passed = suite.testPassCount;
    const brokenGroups = suite.groupCount - suite.groupPassCount;
    const failed = suite.testCount - passed + brokenGroups + suite.errors.length;
    for (const error of suite.errors) write(`  ✖ ${error.type}: ${error.message}\n${error.stackTrace}\n`);
    write(`${failed === 0 ? "✔" : "✖"} ${suite.fileName}: ${passed} passed, ${failed} failed\n`);
    tally.passed += passed;
    tally.failed += failed;
  },
};
