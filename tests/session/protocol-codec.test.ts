// The wire formats, byte for byte.
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { ProtocolError } from "../../host/errors.ts";
import * as codec from "../../host/protocol/codec.ts";
import * as messages from "../../host/protocol/messages.ts";

const hex = (bytes: Buffer) => bytes.toString("hex");
const bytesOf = (text: string) => Buffer.from(text.replaceAll(" ", ""), "hex");

const region = {
  gpa: 0x1_0000_0000n,
  byteLength: 0x400_0000n,
  userAddress: 0x7f5a_c000_0000n,
  mmapOffset: 0x2000n,
};
const REGION = "0000000001000000 0000000400000000 000000c05a7f0000 0020000000000000";
const PADDING_REGION = "00".repeat(32);

describe("message framing", () => {
  test("a header is request, flags and size", () => {
    const header = { request: messages.VHOST_USER_SET_MEM_TABLE, flags: 9, size: 0x108 };
    assert.equal(hex(codec.encodeHeader(header)), "050000000900000008010000");
    assert.deepEqual(codec.decodeHeader(bytesOf("05000000 09000000 08010000")), header);
  });

  test("a whole message carries version 1", () => {
    const reply = codec.encodeMessage(messages.VHOST_USER_GET_FEATURES, 4, codec.encodeU64(1n << 30n));
    assert.equal(hex(reply), "010000000500000008000000" + "0000004000000000");
    assert.equal(hex(codec.encodeMessage(messages.VHOST_USER_SET_OWNER, 0)), "030000000100000000000000");
  });
});

interface Format {
  name: string;
  request: number;
  value: unknown;
  golden: string;
  encode: () => Buffer;
  decode: (message: codec.Encoded) => unknown;
}

const address = {
  index: 1,
  flags: 1,
  descriptor: 0x1122334455667788n,
  used: 2n,
  available: 3n,
  log: 0xffff_ffff_ffff_ffffn,
};
const config = { offset: 32, flags: 1, bytes: Buffer.from([0xaa, 0xbb]) };
const inflight = { mmapSize: 0x1840n, mmapOffset: 0x1000n, numQueues: 3, queueSize: 128 };

const formats: Format[] = [
  {
    name: "u64",
    request: messages.VHOST_USER_SET_FEATURES,
    value: 0x8000_0000_0000_0001n,
    golden: "01000000 00000080",
    encode: () => codec.encodeU64(0x8000_0000_0000_0001n),
    decode: codec.decodeU64,
  },
  {
    name: "vring state",
    request: messages.VHOST_USER_SET_VRING_BASE,
    value: { index: 2, num: 0x80008000 },
    golden: "02000000 00800080",
    encode: () => codec.encodeVringState({ index: 2, num: 0x80008000 }),
    decode: codec.decodeVringState,
  },
  {
    name: "vring address",
    request: messages.VHOST_USER_SET_VRING_ADDR,
    value: address,
    golden: "01000000 01000000 8877665544332211 0200000000000000 0300000000000000 ffffffffffffffff",
    encode: () => codec.encodeVringAddress(address),
    decode: codec.decodeVringAddress,
  },
  {
    name: "memory table",
    request: messages.VHOST_USER_SET_MEM_TABLE,
    value: [region, region],
    golden: `02000000 00000000 ${REGION} ${REGION}`,
    encode: () => codec.encodeMemoryTable([region, region]),
    decode: codec.decodeMemoryTable,
  },
  {
    name: "single region",
    request: messages.VHOST_USER_ADD_MEM_REG,
    value: region,
    golden: `0000000000000000 ${REGION}`,
    encode: () => codec.encodeSingleRegion(region),
    decode: codec.decodeSingleRegion,
  },
  {
    name: "config space",
    request: messages.VHOST_USER_SET_CONFIG,
    value: config,
    golden: "20000000 02000000 01000000 aabb",
    encode: () => codec.encodeConfig(config),
    decode: codec.decodeConfig,
  },
  {
    name: "inflight description",
    request: messages.VHOST_USER_SET_INFLIGHT_FD,
    value: inflight,
    golden: "4018000000000000 0010000000000000 0300 8000 00000000",
    encode: () => codec.encodeInflight(inflight),
    decode: codec.decodeInflight,
  },
];

for (const { name, request, value, golden, encode, decode } of formats) {
  describe(name, () => {
    test("is encoded as the specification lays it out", () => {
      assert.equal(hex(encode()), golden.replaceAll(" ", ""));
    });

    test("is decoded from the same bytes", () => {
      assert.deepEqual(decode({ request, payload: bytesOf(golden) }), value);
    });

    test("is refused when it is a byte short, a byte long or empty", () => {
      const payload = bytesOf(golden);
      const wrong = [payload.subarray(0, -1), Buffer.concat([payload, Buffer.alloc(1)]), Buffer.alloc(0)];
      for (const bytes of wrong) {
        assert.throws(
          () => decode({ request, payload: bytes }),
          (error) => error instanceof ProtocolError && error.request === messages.requestName(request),
        );
      }
    });
  });
}

describe("what peers may send besides", () => {
  test("a memory table padded to 8 regions has those that it counts", () => {
    const payload = bytesOf(`01000000 00000000 ${REGION} ${PADDING_REGION.repeat(7)}`);
    assert.deepEqual(codec.decodeMemoryTable({ request: 5, payload }), [region]);
  });

  test("user-mode-linux's memory table has room for two regions and uses one", () => {
    const payload = bytesOf(`01000000 00000000 ${REGION} ${PADDING_REGION}`);
    assert.deepEqual(codec.decodeMemoryTable({ request: 5, payload }), [region]);
  });

  test("a memory table of nothing has no regions", () => {
    assert.deepEqual(codec.decodeMemoryTable({ request: 5, payload: Buffer.alloc(8) }), []);
  });

  test("a memory table of 9 regions is refused, however long it is", () => {
    const payload = bytesOf(`09000000 00000000 ${REGION.repeat(9)}`);
    assert.throws(() => codec.decodeMemoryTable({ request: 5, payload }), {
      message: "SET_MEM_TABLE: 9 regions",
    });
  });

  test("a count that would overflow a length is refused", () => {
    const payload = bytesOf("ffffffff 00000000");
    assert.throws(() => codec.decodeMemoryTable({ request: 5, payload }), ProtocolError);
  });

  test("an inflight description without padding is accepted", () => {
    const payload = codec.encodeInflight(inflight, 20);
    assert.equal(payload.length, 20);
    assert.deepEqual(codec.decodeInflight({ request: 32, payload }), inflight);
  });

  test("config space of 256 bytes is accepted, of 257 refused", () => {
    const access = (length: number) =>
      codec.encodeConfig({ offset: 0, flags: 0, bytes: Buffer.alloc(length) });
    assert.equal(codec.decodeConfig({ request: 24, payload: access(256) }).bytes.length, 256);
    assert.throws(() => codec.decodeConfig({ request: 24, payload: access(257) }), ProtocolError);
  });

  test("a request without a payload is refused with one", () => {
    codec.decodeNothing({ request: 3, payload: Buffer.alloc(0) });
    assert.throws(() => codec.decodeNothing({ request: 3, payload: Buffer.alloc(1) }), {
      message: "SET_OWNER: payload of 1 bytes",
    });
  });
});

describe("request names", () => {
  test("agree with the constants", () => {
    for (const [constant, value] of Object.entries(messages)) {
      if (!isFrontEndRequest(constant)) continue;
      assert.equal(`VHOST_USER_${messages.requestName(value as number)}`, constant);
    }
  });

  test("exist for numbers that nobody knows", () => {
    assert.equal(messages.requestName(4000), "request 4000");
  });
});

function isFrontEndRequest(constant: string): boolean {
  const isOther = /_(PROTOCOL_F|F|BACKEND|MAX|VERSION|CONFIG_F)_|_VERSION$|_MASK$/.test(constant);
  return constant.startsWith("VHOST_USER_") && (!isOther || constant === "VHOST_USER_SET_BACKEND_REQ_FD");
}
