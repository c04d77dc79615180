import { create } from "@bufbuild/protobuf";
import { KeyturnError } from "../../errors.ts";
import {
  GetProviderResponseSchema,
  LintProviderResponseSchema,
  ListProvidersResponseSchema,
  ProviderService,
} from "../../gen/keyturn/v1/provider_service_pb.js";
import { type Handlers, unary } from "../call.ts";

/** A provider's file as operators see it. */
export interface ShownProvider {
  readonly name: string;
  readonly format: string;
  readonly source: string;
  readonly setup: string;
  readonly accountFields: readonly string[];
}

export interface ProviderServiceDeps {
  readonly list: () => readonly ShownProvider[];
  /** The file's text; undefined when there is no such file. */
  readonly text: (name: string) => string | undefined;
  readonly lint: (
    name: string,
    text: string,
  ) => readonly {
    readonly line: number;
    readonly column: number;
    readonly path: string;
    readonly message: string;
  }[];
}

/** The loaded provider files. */
export function providerHandlers(deps: ProviderServiceDeps): Handlers {
  const shown = (provider: ShownProvider) => ({ ...provider, accountFields: [...provider.accountFields] });
  return {
    listProviders: unary(ProviderService.method.listProviders, () =>
      create(ListProvidersResponseSchema, { providers: deps.list().map(shown) }),
    ),
    getProvider: unary(ProviderService.method.getProvider, ({ name }) => {
      const provider = deps.list().find((one) => one.name === name);
      const text = deps.text(name);
      if (provider === undefined || text === undefined) {
        throw new KeyturnError("PROVIDER_NOT_FOUND", "There is no provider file of this name.", {
          metadata: { provider: name },
        });
      }
      return create(GetProviderResponseSchema, { provider: shown(provider), text });
    }),
    lintProvider: unary(ProviderService.method.lintProvider, ({ name, text }) => {
      const faults = deps
        .lint(name, text)
        .map(({ line, column, path, message }) => ({ line, column, path, description: message }));
      return create(LintProviderResponseSchema, { faults });
    }),
  };
}
