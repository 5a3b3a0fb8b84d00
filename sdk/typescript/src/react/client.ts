import type { ReactElement, ReactNode } from 'react';
import { createContext, createElement, useContext } from 'react';
import type { ResonantGenesis } from '../index.js';
import { defaultClient } from '../store/default-client.js';

const ClientContext = createContext<ResonantGenesis | null>(null);

export interface ResonantGenesisProviderProps {
  readonly client: ResonantGenesis;
  readonly children?: ReactNode;
}

/** Gives its client to the hooks of everything inside. Make the client once, not while rendering. */
export function ResonantGenesisProvider(props: ResonantGenesisProviderProps): ReactElement {
  return createElement(ClientContext.Provider, { value: props.client }, props.children);
}

/** The nearest provider's client; without one, that of the environment. */
export function useClient(): ResonantGenesis {
  return useContext(ClientContext) ?? defaultClient();
}
