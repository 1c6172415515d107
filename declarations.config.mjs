// Makes one declaration file of each entry of the library: what it exports, and of the rest only what that refers to.
import { execFileSync } from "node:child_process";
import { existsSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join, normalize } from "node:path";
import ts from "typescript";

const EMITTED = "build/declarations";
const ENTRIES = {
  "host/library/index.ts": "build/index.d.ts",
  "host/core/loader.ts": "build/core-loader.d.ts",
};

/** Stands between the declarations of one name until all are known. */
const OVERLOAD = "\0";
const modules = new Map();

rmSync(EMITTED, { recursive: true, force: true });
execFileSync(process.execPath, ["node_modules/typescript/bin/tsc", "-p", "tsconfig.declarations.json"], {
  stdio: "inherit",
});
for (const [entry, out] of Object.entries(ENTRIES)) writeFileSync(out, withWebAssembly(bundle(entry)));
rmSync(EMITTED, { recursive: true });

/** A project without the library "dom" has no such names; with it, nothing is added to them. */
function withWebAssembly(text) {
  const names = [
    ...new Set([...text.matchAll(/: WebAssembly\.(\w+)|= WebAssembly\.(\w+)/g)].map(([, a, b]) => a ?? b)),
  ];
  if (names.length === 0) return text;
  const interfaces = names.map((name) => `    interface ${name} {}`).join("\n");
  return `declare global {\n  namespace WebAssembly {\n${interfaces}\n  }\n}\n${text}`;
}

function bundle(entry) {
  const output = { texts: new Map(), external: new Set(), exported: new Set() };
  const module = load(entry);
  for (const statement of module.source.statements) {
    if (ts.isExportDeclaration(statement)) include(module, statement, output);
  }
  for (const name of module.declared.keys()) {
    output.exported.add(name);
    need(module, name, output);
  }
  const parts = [...output.texts].map(([name, text]) =>
    output.exported.has(name) ? exported(text) : text.replaceAll(OVERLOAD, "\n"),
  );
  return `${[...output.external, ...parts, "export {};"].join("\n")}\n`;
}

/** Each of its declarations: a function may have several. */
function exported(text) {
  return text
    .split(OVERLOAD)
    .map((part) => part.replace(/^(\s*(?:\/\*\*.*?\*\/\s*)?)/s, "$1export "))
    .join("\n");
}

/** `export { name } from`, or `export * as name from`. */
function include(module, statement, output) {
  const target = load(resolve(module, statement.moduleSpecifier.text));
  const { exportClause } = statement;
  if (ts.isNamespaceExport(exportClause)) {
    output.texts.set(exportClause.name.text, namespaceOf(statement, exportClause.name.text, target));
    output.exported.add(exportClause.name.text);
    return;
  }
  for (const { name } of exportClause.elements) {
    output.exported.add(name.text);
    need(target, name.text, output);
  }
}

/** Takes a declaration, and before it all that it refers to. */
function need(module, name, output) {
  const known = module.declared.get(name);
  if (known === undefined) throw new Error(`${module.path} has no ${name}`);
  const text = known.map((statement) => textOf(statement, module.source)).join(OVERLOAD);
  if (output.texts.has(name)) {
    if (output.texts.get(name) !== text) throw new Error(`two declarations have the name ${name}`);
    return;
  }
  output.texts.set(name, text);
  for (const statement of known) visit(statement, module, name, output);
}

function visit(node, module, own, output) {
  if (ts.isIdentifier(node) && node.text !== own && !isMemberName(node)) {
    const from = module.imported.get(node.text);
    if (module.declared.has(node.text)) need(module, node.text, output);
    else if (from?.startsWith(".")) need(load(resolve(module, from)), node.text, output);
    else if (from) output.external.add(`import { ${node.text} } from "${from}";`);
  }
  ts.forEachChild(node, (child) => visit(child, module, own, output));
}

function isMemberName({ parent, text }) {
  return (
    (ts.isPropertySignature(parent) ||
      ts.isPropertyDeclaration(parent) ||
      ts.isMethodDeclaration(parent) ||
      ts.isMethodSignature(parent) ||
      ts.isParameter(parent) ||
      ts.isGetAccessor(parent) ||
      ts.isNamedTupleMember(parent)) &&
    parent.name?.text === text
  );
}

function namespaceOf(statement, name, target) {
  const body = membersOf(target).map((text) => `  ${text.replace("declare ", "").replaceAll("\n", "\n  ")}`);
  return `${commentOf(statement)}declare namespace ${name} {\n${body.join("\n")}\n}`;
}

/** With what it exports of other modules: `export * from`. */
function membersOf(module) {
  return module.source.statements.flatMap((statement) =>
    ts.isExportDeclaration(statement) && statement.exportClause === undefined
      ? membersOf(load(resolve(module, statement.moduleSpecifier.text)))
      : [textOf(statement, module.source)],
  );
}

function commentOf(statement) {
  const text = statement.getFullText();
  return /^\s*(\/\*\*.*?\*\/\n)/s.exec(text)?.[1] ?? "";
}

/** With its comment, and without `export`, which only what the entry exports gets. */
function textOf(statement, source) {
  const start = ts.getJSDocCommentsAndTags(statement)[0]?.getStart(source) ?? statement.getStart(source);
  return source.text.slice(start, statement.end).replace(/^((?:\/\*\*.*?\*\/\s*)?)export /s, "$1");
}

function load(path) {
  if (!modules.has(path)) modules.set(path, parse(path));
  return modules.get(path);
}

function parse(path) {
  const emitted = join(EMITTED, path.replace(/\.ts$/, ".d.ts"));
  const file = existsSync(emitted) ? emitted : path.replace(/\.js$/, ".d.ts");
  const source = ts.createSourceFile(file, readFileSync(file, "utf8"), ts.ScriptTarget.Latest, true);
  const declared = new Map();
  const imported = new Map();
  for (const statement of source.statements) {
    if (ts.isImportDeclaration(statement)) {
      for (const { name } of statement.importClause?.namedBindings?.elements ?? []) {
        imported.set(name.text, statement.moduleSpecifier.text);
      }
    }
    const names = ts.isVariableStatement(statement)
      ? statement.declarationList.declarations.map(({ name }) => name.text)
      : statement.name
        ? [statement.name.text]
        : [];
    for (const name of names) declared.set(name, [...(declared.get(name) ?? []), statement]);
  }
  return { path, source, declared, imported };
}

function resolve({ path }, specifier) {
  return normalize(join(dirname(path), specifier));
}
