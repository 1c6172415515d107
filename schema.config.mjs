// Compiles schema/ into build/: validators that need no library at run time, and the types of what they accept.
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { Ajv2020 } from "ajv/dist/2020.js";
import standalone from "ajv/dist/standalone/index.js";
import { compile } from "json-schema-to-typescript";

const description = readSchema("backend-description.schema.json");
const capabilities = readSchema("backend-capabilities.schema.json");
const guests = readSchema("vsock-guests.schema.json");

mkdirSync("build", { recursive: true });
writeFileSync("build/schemas.js", validators());
writeFileSync("build/schemas.d.ts", await types());

function readSchema(name) {
  return JSON.parse(readFileSync(`schema/${name}`, "utf8"));
}

function validators() {
  const ajv = new Ajv2020({
    schemas: [description, capabilities, guests],
    allErrors: true,
    verbose: true,
    code: { source: true, esm: true },
  });
  return standalone.default(ajv, {
    validateDescription: description.$id,
    validateCapabilities: capabilities.$id,
    validateGuests: guests.$id,
  });
}

async function types() {
  const options = { cwd: "schema", bannerComment: "" };
  return [
    await compile(description, "", options),
    // What it refers to has been declared with the other.
    await compile(capabilities, "", { ...options, declareExternallyReferenced: false }),
    await compile(guests, "", options),
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
`,
  ].join("\n");
}
