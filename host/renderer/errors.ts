// What can go wrong with a renderer, as its device is told.

/** The renderer can't do what it was asked. */
export class RendererRefused extends Error {
  override readonly name = "RendererRefused";

  constructor(
    /** Of an answer (messages.ts). */
    readonly status: number,
    sentence: string,
  ) {
    super(sentence);
  }
}

/** There is no renderer any more. */
export class RendererGone extends Error {
  override readonly name = "RendererGone";
}
