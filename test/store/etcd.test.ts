import { ETCD } from "../backends/parts.ts";
import { describeEtcd } from "./etcd-contract.ts";

describeEtcd(ETCD);
