// What a driver asks of a line, in the specification's numbers (virtio 1.4, 5.18.6), and what comes back.
import * as spec from "../../../assembly/spec/virtio-gpio.ts";
import type { Listener, Trigger } from "../../lines/interrupt.ts";
import type { Direction, Line } from "../../lines/line.ts";
import type { Chain } from "../device.ts";

const DIRECTIONS: Readonly<Record<number, Direction>> = {
  [spec.VIRTIO_GPIO_DIRECTION_NONE]: "none",
  [spec.VIRTIO_GPIO_DIRECTION_OUT]: "out",
  [spec.VIRTIO_GPIO_DIRECTION_IN]: "in",
};

const TRIGGERS: Readonly<Record<number, Trigger>> = {
  [spec.VIRTIO_GPIO_IRQ_TYPE_NONE]: "none",
  [spec.VIRTIO_GPIO_IRQ_TYPE_EDGE_RISING]: "rising",
  [spec.VIRTIO_GPIO_IRQ_TYPE_EDGE_FALLING]: "falling",
  [spec.VIRTIO_GPIO_IRQ_TYPE_EDGE_BOTH]: "both",
  [spec.VIRTIO_GPIO_IRQ_TYPE_LEVEL_HIGH]: "high",
  [spec.VIRTIO_GPIO_IRQ_TYPE_LEVEL_LOW]: "low",
};

/** A message that makes no sense. */
export class Refused extends Error {}

/** Resolves with the response's value. */
export async function perform(line: Line<Listener>, message: number, value: number): Promise<number> {
  switch (message) {
    case spec.VIRTIO_GPIO_MSG_GET_DIRECTION: {
      const isOut = (await line.getDirection()) === "out";
      return isOut ? spec.VIRTIO_GPIO_DIRECTION_OUT : spec.VIRTIO_GPIO_DIRECTION_IN;
    }
    case spec.VIRTIO_GPIO_MSG_SET_DIRECTION:
      if (!(value in DIRECTIONS) || !(await line.setDirection(DIRECTIONS[value]!))) throw new Refused();
      return 0;
    case spec.VIRTIO_GPIO_MSG_GET_VALUE:
      return line.getValue();
    case spec.VIRTIO_GPIO_MSG_SET_VALUE:
      if (value > 1) throw new Refused();
      await line.setValue(value);
      return 0;
    case spec.VIRTIO_GPIO_MSG_SET_IRQ_TYPE:
      if (!(value in TRIGGERS) || !(await line.setTrigger(TRIGGERS[value]!))) throw new Refused();
      return 0;
    default:
      throw new Refused();
  }
}

/** All of struct virtio_gpio_response. Without a value: a failure. */
export function respond(chain: Chain, value?: number): void {
  const { VIRTIO_GPIO_STATUS_OK: OK, VIRTIO_GPIO_STATUS_ERR: ERR } = spec;
  chain.out.bytes(value === undefined ? Buffer.of(ERR, 0) : Buffer.of(OK, value));
  chain.use();
}

/** Buffers of the event queue, which masks the interrupt of their line (5.18.7). */
export function giveBack(chain: Chain, isInterrupt: boolean): void {
  chain.out.u8(isInterrupt ? spec.VIRTIO_GPIO_IRQ_STATUS_VALID : spec.VIRTIO_GPIO_IRQ_STATUS_INVALID);
  chain.use();
}
