import type { Admission, Admitted, Alongside, Applicant, Ending } from "./admission.ts";
import { grantFault, mintFault, type Presented } from "./connection-faults.ts";
import type { Credential } from "./credential.ts";
import { openEar } from "./ear.ts";
import type { ContextClient, Interpretation, RawAnswer, VendorContext } from "./vendor.ts";
import type { World } from "./world.ts";

/** A first token, and the client that it was minted through. */
export interface Minted {
  readonly credential: Credential;
  readonly client: ContextClient | undefined;
  /** Non-secret account fields read from the answers. */
  readonly fields: Readonly<Record<string, string>>;
  /** Who it is at the vendor. Undefined: neither file nor answer tells. */
  readonly subject: string | undefined;
}

type Read = Exclude<Interpretation, { kind: "more" }>;

/** First tokens of accounts whose tokens are minted. Minting spends nothing, so a lost answer costs nothing. */
export class Minting {
  readonly #world: World;
  readonly #admission: Admission;

  constructor(world: World, admission: Admission) {
    this.#world = world;
    this.#admission = admission;
  }

  /** What is minted with proves itself by that. Rejects as `Admission.enter`, and with what the provider refuses it for. */
  async mint(
    context: Omit<VendorContext, "client">,
    applicant: Applicant,
    presented: Presented,
    alongside?: Alongside,
  ): Promise<Minted> {
    const admitted = await this.#admission.enter(applicant, undefined, alongside);
    const { client } = admitted;
    const answers: RawAnswer[] = [];
    const work = () => this.#exchanged({ ...context, client }, admitted, answers);
    const read = await this.#admission.within(admitted, work, endingOf);
    if (read.kind !== "granted") throw mintFault(context.account, read, presented);
    if (read.unfinished !== undefined) throw grantFault(context.account, { kind: "more" });
    const { credential, fields } = read;
    const account = { ...context.account, fields: { ...context.account.fields, ...fields } };
    return { credential, client, fields, subject: this.#world.consents.subject(account, answers.at(-1)) };
  }

  /** `answers` receives what the provider says. */
  async #exchanged(context: VendorContext, { sendUntilMs }: Admitted, answers: RawAnswer[]): Promise<Read> {
    const { vendors, clock } = this.#world;
    const ear = openEar(clock);
    const go = () => !ear.signal.aborted && (answers.length > 0 || clock.boot() < sendUntilMs);
    try {
      for (;;) {
        const sent = await vendors.exchange(context, go, ear.signal, answers);
        if (sent.kind !== "answer") return sent;
        const before = [...answers];
        answers.push(sent.answer);
        const read = await vendors.interpret(context, sent.answer, before);
        if (read.kind !== "more") return read;
      }
    } finally {
      ear.close();
    }
  }
}

function endingOf(read: Read): Ending {
  return read.kind === "granted" && read.unfinished !== undefined ? read.unfinished : read;
}
