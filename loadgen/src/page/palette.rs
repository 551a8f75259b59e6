//! Which colour and which mark each of several compared things has.

use plotters::style::RGBColor;

/// A colour on a light and on a dark page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Hue {
    pub(super) light: RGBColor,
    pub(super) dark: RGBColor,
}

/// The form of a point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Circle,
    Square,
    Triangle,
    Diamond,
    Cross,
}

/// After Okabe and Ito, whose colours are told apart with every kind of colour vision; a little darker on light, a little lighter on dark.
pub(super) const HUES: [Hue; 8] = [
    hue(0x00, 0x6A, 0xB0, 0x34, 0x8C, 0xD8),
    hue(0xC2, 0x41, 0x00, 0xFF, 0x7B, 0x42),
    hue(0x00, 0x8F, 0x68, 0x2C, 0xC4, 0x98),
    hue(0xB0, 0x4A, 0x8A, 0xE8, 0xA0, 0xD4),
    hue(0xC0, 0x8C, 0x00, 0xFF, 0xD0, 0x40),
    hue(0x24, 0x98, 0xD8, 0x92, 0xDC, 0xFF),
    hue(0x50, 0x50, 0x50, 0x8C, 0x8C, 0x8C),
    hue(0x4A, 0x1F, 0x8C, 0xC4, 0xA4, 0xFF),
];
/// Colours alone do not carry the difference: the forms begin anew at another place of the colours.
const FORMS: [Form; 5] = [
    Form::Circle,
    Form::Square,
    Form::Triangle,
    Form::Diamond,
    Form::Cross,
];

const fn hue(r: u8, g: u8, b: u8, dark_r: u8, dark_g: u8, dark_b: u8) -> Hue {
    Hue {
        light: RGBColor(r, g, b),
        dark: RGBColor(dark_r, dark_g, dark_b),
    }
}

/// The names of what a page compares, in the order in which they get their colours. From the ninth on a colour comes again with another mark.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Palette {
    names: Vec<String>,
}

impl Palette {
    /// For these names; a name that comes again keeps its first colour.
    pub fn new<N: Into<String>>(names: impl IntoIterator<Item = N>) -> Self {
        let mut palette = Self::default();
        for name in names {
            let name = name.into();
            if !palette.names.contains(&name) {
                palette.names.push(name);
            }
        }
        palette
    }

    /// The colour of a name. One that the palette does not know has the first.
    pub(super) fn hue(&self, name: &str) -> Hue {
        HUES[self.index(name) % HUES.len()]
    }

    pub(super) fn form(&self, name: &str) -> Form {
        FORMS[self.index(name) % FORMS.len()]
    }

    fn index(&self, name: &str) -> usize {
        let index = self.names.iter().position(|known| known == name);
        index.unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_keeps_its_colour_whatever_else_is_drawn() {
        let palette = Palette::new(["kafka", "gannet", "kafka", "nats"]);
        assert_eq!(palette.hue("kafka"), HUES[0]);
        assert_eq!(palette.hue("nats"), HUES[2]);
    }

    #[test]
    fn twice_as_many_names_as_colours_still_differ() {
        let names: Vec<String> = (0..16).map(|index| index.to_string()).collect();
        let palette = Palette::new(names.clone());
        let mut looks: Vec<_> = names
            .iter()
            .map(|name| format!("{:?} {:?}", palette.hue(name), palette.form(name)))
            .collect();
        looks.sort();
        looks.dedup();
        assert_eq!(looks.len(), names.len());
    }

    #[test]
    fn colours_are_told_apart_without_seeing_red_or_green() {
        // Viénot's simulation of deuteranopia and protanopia, in linear light; the distance is CIE76's in L*a*b*.
        for (name, matrix) in [
            (
                "deuteranopia",
                [
                    [0.292_75, 0.707_25, 0.0],
                    [0.292_75, 0.707_25, 0.0],
                    [-0.022_34, 0.022_34, 1.0],
                ],
            ),
            (
                "protanopia",
                [
                    [0.112_38, 0.887_62, 0.0],
                    [0.112_38, 0.887_62, 0.0],
                    [0.004_01, -0.004_01, 1.0],
                ],
            ),
        ] {
            for select in [|hue: &Hue| hue.light, |hue: &Hue| hue.dark] {
                let seen: Vec<[f64; 3]> = HUES
                    .iter()
                    .map(|hue| lab(simulated(select(hue), matrix)))
                    .collect();
                for (first, one) in seen.iter().enumerate() {
                    for (second, other) in seen.iter().enumerate().skip(first + 1) {
                        let distance = one
                            .iter()
                            .zip(other)
                            .map(|(a, b)| (a - b).powi(2))
                            .sum::<f64>()
                            .sqrt();
                        assert!(
                            distance > 10.0,
                            "{name}: {first} and {second} are {distance:.1} apart"
                        );
                    }
                }
            }
        }
    }

    fn simulated(colour: RGBColor, matrix: [[f64; 3]; 3]) -> [f64; 3] {
        let linear = [colour.0, colour.1, colour.2].map(|channel| {
            let channel = f64::from(channel) / 255.0;
            if channel <= 0.040_45 {
                channel / 12.92
            } else {
                ((channel + 0.055) / 1.055).powf(2.4)
            }
        });
        matrix.map(|row| {
            row.iter()
                .zip(linear)
                .map(|(factor, channel)| factor * channel)
                .sum::<f64>()
                .clamp(0.0, 1.0)
        })
    }

    fn lab(linear: [f64; 3]) -> [f64; 3] {
        let [r, g, b] = linear;
        let f = |t: f64| {
            if t > 0.008_856 {
                t.cbrt()
            } else {
                7.787 * t + 16.0 / 116.0
            }
        };
        let x = f((0.4124 * r + 0.3576 * g + 0.1805 * b) / 0.9505);
        let y = f(0.2126 * r + 0.7152 * g + 0.0722 * b);
        let z = f((0.0193 * r + 0.1192 * g + 0.9505 * b) / 1.089);
        [116.0 * y - 16.0, 500.0 * (x - y), 200.0 * (y - z)]
    }
}
