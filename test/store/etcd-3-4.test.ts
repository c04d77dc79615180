import { OLDEST_ETCD } from "../backends/parts.ts";
import { describeEtcd } from "./etcd-contract.ts";

describeEtcd(OLDEST_ETCD);
