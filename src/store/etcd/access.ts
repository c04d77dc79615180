/** How etcd is reached. */
export interface EtcdAccess {
  /** Such as `https://etcd-0:2379`; all `http` or all `https`. */
  readonly endpoints: readonly string[];
  /** Undefined with `https`: the system's authorities, and no client certificate. */
  readonly tls:
    | {
        readonly authority: Buffer | undefined;
        readonly certificate: Buffer | undefined;
        readonly key: Buffer | undefined;
      }
    | undefined;
  readonly login: { readonly username: string; readonly password: string } | undefined;
}
