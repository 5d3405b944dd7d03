// Why a genre was predicted: what each input adds, the phrases of the plot, and the areas of the poster.
import { $, element } from "./common.js";

// The smallest change of the log-odds that is shown. Below it, an explanation is mostly noise.
const LEAST = 0.05;
const LONGEST = 45; // characters of a joined phrase
const HEAT_WIDTH = 120;
// Words that carry no meaning of their own, in the languages that plots come in. They are not highlighted alone.
const FUNCTION_WORDS = new Set(`a an the and or but nor so of to in on at by for from with into onto over under after before
  between behind through against during without within across along towards upon as is are was were be been being has
  have had do does did will would can could may might must his her hers its their theirs our my your he she it they we you i him them us me who whom whose which that this these those there then
  than when where while until since because if not no only also very up out off about all some any each both one
  el la los las un una unos unas y o de del al en con por para su sus que se es son lo le les como más pero cuando donde
  os as um uma e do da dos das no na nos nas com por ao aos seu sua seus suas é são ou mas quando onde
  le les des du et à au aux dans par pour sur avec son sa ses leur leurs qui est sont ce cette ces il elle ils ne pas
  der das den dem ein eine einen einem einer eines und oder aber im am an auf für mit von vom zu zum zur bei nach aus durch
  über unter vor um als wie wenn dass während er sie es ihr ihre ihren ihrer sein seine seinen seiner ist sind wird sich nicht auch
  il lo gli dei delle della del dello nel nella sul sulla di da che e è con tra fra suo sua suoi loro si non ma come
  de het een en van voor met op naar bij uit door over onder tot zijn haar is wordt heeft dat niet maar als ook`
  .split(/\s+/));

const signed = (points) => `${Math.round(points) < 0 ? "−" : "+"}${Math.abs(Math.round(points))}`;

/** Show the reasons for a genre of this probability. `url` is the poster's address, or null. */
export function showReasons(reasons, genre, probability, url) {
  const p = Math.min(1 - 1e-6, Math.max(1e-6, probability));
  // How far the probability falls, in percentage points, if its log-odds fall by `drop`.
  const points = (drop) => 100 * (p - 1 / (1 + (1 / p - 1) * Math.exp(drop)));
  showContributions(Object.entries(reasons.inputs[genre] || {}).map(([name, drop]) => [name, points(drop)]), reasons);
  showWords(reasons, genre, points);
  showHeat(reasons.regions[genre], genre, url);
}

function showContributions(entries, reasons) {
  const scale = Math.max(10, ...entries.map(([, points]) => Math.abs(points)));
  $("contributions").replaceChildren(...entries.map(([name, points]) => {
    const row = element("div", "contribution"), axis = element("span", "axis"), part = element("span", points < 0 ? "minus" : "plus");
    part.style.width = `${50 * Math.abs(points) / scale}%`;
    axis.append(part);
    row.append(element("span", "", name), axis, element("span", "value", signed(points)));
    return row;
  }));
  $("contributions").hidden = !entries.length;
  const text = entries.map(([name, points]) => `${name} ${signed(points)}`).join(", ");
  $("contributions-text").textContent = entries.length
    ? `${text[0].toUpperCase()}${text.slice(1)} percentage points.`
    : `Based on the ${reasons.text ? "plot" : "poster"} alone.`;
}

/** Return the phrases that matter: close neighbours with the same sign joined, function words cut off at both ends. */
function phrases({ spans, text }, genre) {
  const strongest = Math.max(2 * LEAST, ...spans.map((span) => Math.abs(span.drops[genre])));
  const found = [];
  for (const span of spans) {
    const drop = span.drops[genre];
    const words = [...text.slice(span.start, span.end).matchAll(/[\p{L}\p{N}][\p{L}\p{N}'’-]*/gu)]
      .filter(([word]) => !FUNCTION_WORDS.has(word.toLowerCase()));
    if (Math.abs(drop) < strongest / 5 || !words.length) continue;
    const start = span.start + words[0].index, end = span.start + words.at(-1).index + words.at(-1)[0].length;
    const last = found.at(-1);
    const joins = last && last.drop > 0 === drop > 0 && last.spanEnd + 1 >= span.start && end - last.start <= LONGEST;
    if (joins && !/[.!?;:]/.test(text.slice(last.end, start))) {
      Object.assign(last, { end, spanEnd: span.end, drop: last.drop + drop });
    } else found.push({ start, end, spanEnd: span.end, drop });
  }
  return found;
}

function showWords(reasons, genre, points) {
  const { text } = reasons, found = phrases(reasons, genre);
  const strongest = Math.max(...found.map(({ drop }) => Math.abs(drop)));
  const parts = [];
  let at = 0;
  for (const { start, end, drop } of found) {
    const share = Math.abs(drop) / strongest, strength = share > 0.67 ? " strong" : share < 0.33 ? " weak" : "";
    const mark = element("mark", drop > 0 ? `for${strength}` : "against", text.slice(start, end));
    parts.push(text.slice(at, start), mark);
    at = end;
  }
  $("words").replaceChildren(...parts, text.slice(at));
  $("plot-reasons").hidden = !text;
  const list = (kind, sign, most) => {
    const some = found.filter(({ drop }) => drop * sign > 0).sort((one, other) => sign * (other.drop - one.drop)).slice(0, most);
    return some.length ? `${kind}: ${some.map(({ start, end, drop }) => `“${text.slice(start, end)}”${Math.round(points(drop)) ? ` ${signed(points(drop))}` : ""}`).join(", ")}.` : "";
  };
  $("strongest").textContent = [list("Strongest for it", 1, 4), list("Strongest against it", -1, 2)].filter(Boolean).join(" ")
    || "No phrase stands out.";
}

function showHeat(rows, genre, url) {
  $("poster-reasons").hidden = !rows || !url;
  if ($("poster-reasons").hidden) return;
  $("heat-poster").src = url;
  const strongest = Math.max(...rows.flat().map(Math.abs)), matters = strongest >= LEAST;
  const most = Math.max(...rows.flat());
  $("heat-legend").textContent = matters
    ? `Orange areas speak for ${genre}, blue areas against it. Clear areas do not matter.`
    : `No single area of the poster matters for ${genre}.`;
  $("heat").setAttribute("aria-label", most < LEAST
    ? `No area of the poster speaks for ${genre}.`
    : `The area that speaks most for ${genre} is in the ${place(rows, most)} of the poster.`);
  $("opacity-field").hidden = !matters;
  draw(rows, matters ? strongest : Infinity);
}

/** Draw the small grid first, then enlarge it smoothly. */
function draw(rows, strongest) {
  const small = document.createElement("canvas"), heat = $("heat");
  [small.width, small.height] = [rows[0].length, rows.length];
  [heat.width, heat.height] = [HEAT_WIDTH, Math.round(HEAT_WIDTH * rows.length / rows[0].length)];
  const pixels = new ImageData(small.width, small.height);
  rows.flat().forEach((drop, at) => {
    const strength = Math.max(0, (Math.abs(drop) / strongest - 0.15) / 0.85);
    pixels.data.set([...(drop > 0 ? [255, 96, 0] : [0, 110, 255]), 255 * strength], 4 * at);
  });
  small.getContext("2d").putImageData(pixels, 0, 0);
  const context = heat.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.drawImage(small, 0, 0, heat.width, heat.height);
}

function place(rows, most) {
  const y = rows.findIndex((row) => row.includes(most)), x = rows[y].indexOf(most);
  const third = (at, length, names) => names[Math.floor(3 * (at + 0.5) / length)];
  return `${third(y, rows.length, ["upper", "middle", "lower"])} ${third(x, rows[0].length, ["left", "centre", "right"])}`;
}

$("opacity").addEventListener("input", () => { $("heat").style.opacity = $("opacity").value / 100; });
