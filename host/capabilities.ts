// What `--print-capabilities` says to management software (VHostUserBackendCapabilities in vhost-user.json).

export const CAPABILITIES = { type: "block", features: ["read-only", "blk-file"] };
