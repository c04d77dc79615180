const START =
  "Start one with `keyturn serve --config keyturn.yaml` (or `keyturn demo` to try it), or name its configuration with --config PATH, or where it listens with --socket PATH or --address HOST:PORT.";

/** What gRPC's UNAVAILABLE without a reason means: `details` are grpc-js's words, `where` is what was asked. */
export function unreachable(
  details: string,
  where: string,
): { readonly message: string; readonly nextStep: string } {
  const errno = /\b(E[A-Z]{4,15})\b/.exec(details)?.[1];
  if (errno === "EACCES" || errno === "EPERM") {
    return {
      message: `This user may not open ${where}.`,
      nextStep: "Run the command as the sidecar's user or as a member of the socket's group.",
    };
  }
  if (errno === "ENOENT") {
    return { message: `No sidecar is running here: there is no socket at ${where}.`, nextStep: START };
  }
  if (errno === "ECONNREFUSED") {
    return { message: `No sidecar is listening at ${where}.`, nextStep: START };
  }
  const why = errno === undefined ? "" : ` (${errno})`;
  return { message: `The sidecar at ${where} cannot be reached${why}.`, nextStep: START };
}
