// What there is to say of a backup, to whoever asks for it.

export interface BackupStatus {
  /** The copy's. */
  readonly file: string;
  readonly state: "running" | "done" | "failed" | "cancelled";
  readonly copiedBytes: number;
  readonly totalBytes: number;
  /** For how long the guest's rings were stopped, in milliseconds. */
  readonly pauseMs: number;
  /** Why it failed. */
  readonly reason?: string;
}
