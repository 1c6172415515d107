// Says little of what passes and all of what fails. Counts for run.mjs.
export const tally = { passed: 0, failed: 0 };

/** Past run.mjs, which silences as-pect's own chatter on standard output. */
const write = process.stdout.write.bind(process.stdout);

function reportFailure(node) {
  write(`  ✖ ${node.name}\n`);
  const [reason, ...stack] = node.stackTrace.split("\n");
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
    // A group has a stack trace only when its own code failed; its other tests have not run then.
    if (!node.pass && node.stackTrace) reportFailure(node);
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
