/** JSX of the elements for React 19 and newer; stands beside widget.d.ts. Give `labels` by a ref. */

import type { ClassAttributes, HTMLAttributes } from "react";
import type { CharglyElements, CharglyEvents } from "./widget";

type Listeners = { [Name in keyof CharglyEvents as `on${Name}`]?: (event: CharglyEvents[Name]) => void };

declare module "react" {
  namespace JSX {
    interface IntrinsicElements extends CharglyJSX {}
  }
}

type CharglyJSX = {
  [Tag in keyof CharglyElements]: CharglyElements[Tag] &
    Listeners &
    ClassAttributes<HTMLElementTagNameMap[Tag]> &
    Omit<HTMLAttributes<HTMLElementTagNameMap[Tag]>, keyof CharglyElements[Tag]>;
};
