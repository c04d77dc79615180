import { KeyturnError } from "../errors.ts";
import type { Introduction } from "../tokens/consent.ts";
import type { VendorContext } from "../tokens/vendor.ts";
import { accountRequest } from "./account-request.ts";
import { isSuccessStatus, judge, type ReadAnswer, readAnswer, runOver } from "./answer.ts";
import { isArray, isObject, type Value } from "./expression/values.ts";
import { subjectIn } from "./identity.ts";
import type { AfterConnectPlan, Provider } from "./provider.ts";
import type { Outside } from "./send.ts";

const MAX_CHOICES = 50;

type Failed = Exclude<Introduction, { kind: "introduced" }>;

/** The file's requests after a connection, in order, each seeing the fields of those before it. Never throws. */
export async function introduce(
  outside: Outside,
  provider: Provider,
  context: VendorContext,
): Promise<Introduction> {
  let fields: Readonly<Record<string, string>> = {};
  let subject: string | undefined;
  for (const plan of provider.afterConnect) {
    const known = { ...context.account.fields, ...fields };
    const answer = await ask(outside, provider, plan, {
      ...context,
      account: { ...context.account, fields: known },
    });
    if ("kind" in answer) return answer;
    const found = fieldsOf(provider, plan, answer, known);
    if ("kind" in found) return found;
    fields = { ...fields, ...found.fields };
    if (plan.identity !== undefined)
      subject = subjectIn(plan.identity, answer, { ...known, ...found.fields }) ?? subject;
  }
  return { kind: "introduced", fields, subject };
}

async function ask(
  outside: Outside,
  provider: Provider,
  plan: AfterConnectPlan,
  context: VendorContext,
): Promise<ReadAnswer | Failed> {
  try {
    const sent = await outside.send(accountRequest(provider, plan, context, outside.now()));
    if (sent.kind !== "answer") return { kind: "failed", cause: sent.cause };
    const answer = readAnswer(sent);
    const isSuccess = judge(plan.success, answer) ?? isSuccessStatus(answer.status);
    return isSuccess ? answer : { kind: "failed", cause: `status_${answer.status}` };
  } catch (error) {
    const cause = error instanceof KeyturnError ? error.reason.toLowerCase() : "internal_error";
    return { kind: "failed", cause };
  }
}

interface Choice {
  readonly value: string;
  readonly title: string;
}

function fieldsOf(
  provider: Provider,
  plan: AfterConnectPlan,
  answer: ReadAnswer,
  known: Readonly<Record<string, string>>,
): { readonly fields: Readonly<Record<string, string>> } | Failed {
  const fields: [string, string][] = [];
  for (const [name, expression] of plan.fields) {
    const outcome = runOver(expression, answer);
    const fits = ({ value }: Choice) => provider.fields.get(name)?.accepts(value) === true;
    const choices = (outcome.ok ? choicesIn(outcome.value) : []).filter(fits);
    const wanted = known[name];
    const chosen =
      wanted === undefined
        ? choices
        : choices.filter(({ value, title }) => value === wanted || title === wanted);
    const [one] = chosen;
    if (one === undefined && choices.length === 0) return { kind: "failed", cause: `no_${name}` };
    if (one === undefined || chosen.length > 1)
      return {
        kind: "choice",
        field: name,
        isForeign: one === undefined,
        choices: choices.slice(0, MAX_CHOICES),
      };
    fields.push([name, one.value]);
  }
  return { fields: Object.fromEntries(fields) };
}

/** A text or number, or a list of them or of `{value, title}`. */
function choicesIn(value: Value): readonly Choice[] {
  if (isArray(value)) return value.flatMap(choicesIn);
  if (typeof value === "string" && value !== "") return [{ value, title: "" }];
  if (typeof value === "number") return [{ value: String(value), title: "" }];
  if (!isObject(value)) return [];
  const [own] = choicesIn(value["value"]);
  const title = value["title"];
  return own === undefined ? [] : [{ ...own, title: typeof title === "string" ? title : "" }];
}
