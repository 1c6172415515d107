// What several processes tell Prometheus, as one text: each family once, and each sample with labels that say whose it is. Pure.

export type Labels = Readonly<Record<string, string>>;

interface Sample {
  name: string;
  /** As they stand between the braces. */
  labels: string;
  value: string;
}

interface Family {
  name: string;
  help: string;
  type: string;
  samples: Sample[];
}

const NAME = "[a-zA-Z_:][\\w:]*";
const LABEL = String.raw`([a-zA-Z_]\w*)="((?:[^"\\]|\\.)*)"`;
const COMMENT = new RegExp(`^# (HELP|TYPE) (${NAME}) (.*)$`);
const SAMPLE = new RegExp(`^(${NAME})(?:\\{((?:${LABEL},?)*)\\})? (-?[\\d.][\\w.+-]*|[+-]?Inf|NaN)$`);

/** Of one process. Undefined if it is not such a text. */
export function parseExposition(text: string): Family[] | undefined {
  const families: Family[] = [];
  for (const line of text.split("\n")) {
    if (line === "") continue;
    const [, keyword, name, rest] = COMMENT.exec(line) ?? [];
    if (keyword === "HELP") families.push({ name: name!, help: rest!, type: "untyped", samples: [] });
    else if (!addTo(families.at(-1), line, keyword === "TYPE" ? { name: name!, type: rest! } : undefined))
      return undefined;
  }
  return families.length > 0 ? families : undefined;
}

/** A type, or else a sample. False where neither can stand. */
function addTo(
  family: Family | undefined,
  line: string,
  typed: Pick<Family, "name" | "type"> | undefined,
): boolean {
  if (family === undefined) return false;
  if (typed !== undefined) {
    family.type = typed.type;
    return family.name === typed.name;
  }
  const [, name, labels = "", , , value] = SAMPLE.exec(line) ?? [];
  if (name === undefined || !name.startsWith(family.name)) return false;
  family.samples.push({ name, labels: labels.replace(/,$/, ""), value: value! });
  return true;
}

/** The value of a label of a process's one sample of this family. */
export function labelIn(families: readonly Family[], family: RegExp, label: string): string | undefined {
  const sample = families.find(({ name }) => family.test(name))?.samples[0];
  const found = [...(sample?.labels ?? "").matchAll(new RegExp(LABEL, "g"))].find(
    ([, name]) => name === label,
  );
  return found && unescapeValue(found[2]!);
}

export class Exposition {
  private readonly families = new Map<string, Family>();

  /** `labels`: put before the samples' own, in place of any that have their names. The first that has a family says what it is. */
  merge(families: readonly Family[], labels: Labels): void {
    for (const { samples, ...family } of families) {
      const known = this.families.get(family.name) ?? { ...family, samples: [] };
      this.families.set(family.name, known);
      for (const sample of samples)
        known.samples.push({ ...sample, labels: withLabels(sample.labels, labels) });
    }
  }

  gauge(name: string, help: string, samples: readonly (readonly [labels: Labels, value: number])[]): void {
    const lines = samples.map(([labels, value]) => ({
      name,
      labels: withLabels("", labels),
      value: String(value),
    }));
    this.families.set(name, { name, help, type: "gauge", samples: lines });
  }

  toString(): string {
    return [...this.families.values()].map(textOf).join("");
  }
}

function textOf({ name, help, type, samples }: Family): string {
  const lines = samples.map(({ name, labels, value }) => `${name}${labels && `{${labels}}`} ${value}`);
  return [`# HELP ${name} ${help}`, `# TYPE ${name} ${type}`, ...lines, ""].join("\n");
}

function withLabels(own: string, labels: Labels): string {
  const first = Object.entries(labels).map(([name, value]) => `${name}="${escapeValue(value)}"`);
  const kept = [...own.matchAll(new RegExp(LABEL, "g"))].filter(([, name]) => !Object.hasOwn(labels, name!));
  return [...first, ...kept.map(([label]) => label)].join(",");
}

function escapeValue(value: string): string {
  return value.replace(/[\\"\n]/g, (sign) => (sign === "\n" ? "\\n" : `\\${sign}`));
}

function unescapeValue(text: string): string {
  return text.replace(/\\(.)/g, (_, sign) => (sign === "n" ? "\n" : sign));
}
