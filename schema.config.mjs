// Compiles schema/ into build/: validators that need no library at run time, and the types of what they accept.
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { Ajv2020 } from "ajv/dist/2020.js";
import standalone from "ajv/dist/standalone/index.js";
import { compile } from "json-schema-to-typescript";

const description = readSchema("backend-description.schema.json");
const capabilities = readSchema("backend-capabilities.schema.json");
const guests = readSchema("vsock-guests.schema.json");
const disks = readSchema("blk-disks.schema.json");
/** Each disk is checked for itself, in a file and where one is added: code for both would be twice as long. */
const diskList = { ...disks, $id: "disk-list", properties: { disks: { type: "array" } }, $defs: {} };

mkdirSync("build", { recursive: true });
writeFileSync("build/schemas.js", validators());
writeFileSync("build/schemas.d.ts", await types());

function readSchema(name) {
  return JSON.parse(readFileSync(`schema/${name}`, "utf8"));
}

function validators() {
  const ajv = new Ajv2020({
    schemas: [description, capabilities, guests, disks, diskList],
    allErrors: true,
    verbose: true,
    code: { source: true, esm: true },
  });
  return standalone.default(ajv, {
    validateDescription: description.$id,
    validateCapabilities: capabilities.$id,
    validateGuests: guests.$id,
    validateDiskList: "disk-list",
    validateDisk: `${disks.$id}#/$defs/disk`,
  });
}

async function types() {
  const options = { cwd: "schema", bannerComment: "" };
  return [
    await compile(description, "", options),
    // What it refers to has been declared with the other.
    await compile(capabilities, "", { ...options, declareExternallyReferenced: false }),
    await compile(guests, "", options),
    await compile(disks, "", options),
    `
export interface SchemaError {
  instancePath: string;
  keyword: string;
  params: { type?: string; allowedValues?: string[]; missingProperty?: string; additionalProperty?: string; pattern?: string };
  data: unknown;
  message?: string;
}
export interface Validator {
  (value: unknown): boolean;
  errors?: SchemaError[] | null;
}
export const validateDescription: Validator;
export const validateCapabilities: Validator;
export const validateGuests: Validator;
/** Of a file of disks, all but the disks. */
export const validateDiskList: Validator;
export const validateDisk: Validator;
`,
  ].join("\n");
}
