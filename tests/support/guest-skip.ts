// Whether guests can run here. On a user's machine they are skipped with the reason; in CI that is a failure.

/** For the `skip` option of a test: false, or why. VRINGD_TEST_GUESTS is "off", "required", or unset. */
export function skipReason(unavailable: string | undefined): string | false {
  const wish = process.env.VRINGD_TEST_GUESTS;
  if (wish === "off") return "VRINGD_TEST_GUESTS=off";
  if (wish === "required" && unavailable !== undefined)
    throw new Error(`guests are required: ${unavailable}`);
  return unavailable ?? false;
}
