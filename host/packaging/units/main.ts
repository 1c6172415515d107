// Writes the units: a service and a socket for each device's program, of templates that all share and what PROGRAM.json says beside
// them; and that of the exporter, which is as it is.
import { copyFileSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { allPrograms } from "../../devices/index.ts";
import type { DeviceProgram } from "../../devices/program.ts";

/** What the units of one program say that no others do. */
interface Facts {
  /** Ends the instance's name in names of files. Left out: "." and the program's own. Units of one machine must not share any. */
  file?: string;
  /** As a person would call the device. */
  what: string;
  /** What whoever connects has. */
  stake: string;
  /** Further properties of QEMU's chardev. */
  reconnect?: string;
  /** What the program can't do without, as a setting with a default. */
  setting?: { name: string; option: string; default: string };
  /** VRINGD_OPTIONS where the settings don't say. Left out: none. */
  options?: string;
  /** Lines of /etc/vringd/NAME.conf. */
  example: string[];
  /** Comments. */
  notes: string[];
  /** Further lines of [Service]. */
  service?: string[];
}

const TEMPLATES = "host/packaging/units";
const OUT = "build/systemd";
/** Of the toolbox: there is one, and it has no socket unit. */
const EXPORTER = "vringd-exporter.service";

rmSync(OUT, { recursive: true, force: true });
mkdirSync(OUT, { recursive: true });
for (const program of await allPrograms()) {
  const facts: Facts = JSON.parse(readFileSync(join(TEMPLATES, `${program.name}.json`), "utf8"));
  for (const kind of ["service", "socket"]) {
    const template = readFileSync(join(TEMPLATES, `device@.${kind}`), "utf8");
    writeFileSync(join(OUT, `${program.name}@.${kind}`), fillIn(template, program, facts));
  }
}
copyFileSync(join(TEMPLATES, EXPORTER), join(OUT, EXPORTER));

function fillIn(template: string, { name, description }: DeviceProgram, facts: Facts): string {
  const { what, stake, reconnect = "", setting, options = "", example, notes, service = [] } = facts;
  const ending = facts.file ?? name.replace(/^vringd-/, ".");
  const values: Record<string, string> = {
    program: name,
    description,
    what,
    stake,
    reconnect,
    environment: [
      ...(setting ? [`${setting.name}=${setting.default}`] : []),
      `VRINGD_OPTIONS=${options}`,
    ].join(" "),
    options: setting ? `${setting.option}=\${${setting.name}} ` : "",
    example: example.map((line) => `#   ${line}`).join("\n"),
    notes: notes.map((line) => `# ${line}`.trimEnd()).join("\n"),
    service: service.map((line) => `\n${line}`).join(""),
  };
  return template.replace(/\{\{(\w+)(?: ([^}]+))?\}\}/g, (place, key: string, instance: string) => {
    const value = key === "file" ? `${instance}${ending}` : values[key];
    if (value === undefined) throw new Error(`nothing stands for ${place}`);
    return value;
  });
}
