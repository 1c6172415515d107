// What `--print-capabilities` says to management software (schema/backend-capabilities.schema.json).
import type { BackendCapabilities } from "../../../build/schemas.js";

export const CAPABILITIES: BackendCapabilities = { type: "block", features: ["read-only", "blk-file"] };
