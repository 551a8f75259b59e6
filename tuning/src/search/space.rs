//! What can be tried: knobs, each with values in an order in which neighbours are alike.

/// One thing that can be set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Knob {
    /// Its name, such as `journal.commit_interval_us`.
    pub name: &'static str,
    /// Its values as they are written, in order.
    pub values: Vec<String>,
    /// Which of them is the default.
    pub default: usize,
}

/// All knobs, those first that promise most.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Space {
    knobs: Vec<Knob>,
}

/// A value for each knob.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Point(Vec<usize>);

/// One of a space's knobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KnobIndex(pub usize);

impl Space {
    /// Of these knobs. One whose default is not among its values, or that has no other value, is left out: there is nothing to try.
    #[must_use]
    pub fn new(knobs: Vec<Knob>) -> Self {
        Self {
            knobs: knobs
                .into_iter()
                .filter(|knob| knob.values.len() > 1 && knob.default < knob.values.len())
                .collect(),
        }
    }

    /// Its knobs.
    #[must_use]
    pub fn knobs(&self) -> &[Knob] {
        &self.knobs
    }

    /// The index of each.
    pub fn indexes(&self) -> impl Iterator<Item = KnobIndex> + use<> {
        (0..self.knobs.len()).map(KnobIndex)
    }

    /// Where every knob has its default.
    #[must_use]
    pub fn default_point(&self) -> Point {
        Point(self.knobs.iter().map(|knob| knob.default).collect())
    }

    /// How many values a knob has.
    #[must_use]
    pub fn values(&self, knob: KnobIndex) -> usize {
        self.knobs.get(knob.0).map_or(0, |knob| knob.values.len())
    }

    /// The value of each knob at a point, by name.
    pub fn settings<'a>(
        &'a self,
        point: &'a Point,
    ) -> impl Iterator<Item = (&'static str, &'a str)> {
        self.knobs.iter().zip(&point.0).filter_map(|(knob, value)| {
            let value = knob.values.get(*value)?;
            Some((knob.name, value.as_str()))
        })
    }

    /// The same for those knobs that are not at their default.
    pub fn changes<'a>(
        &'a self,
        point: &'a Point,
    ) -> impl Iterator<Item = (&'static str, &'a str)> {
        self.settings(point)
            .zip(self.knobs.iter().zip(&point.0))
            .filter(|(_, (knob, value))| knob.default != **value)
            .map(|(setting, _)| setting)
    }
}

impl Point {
    /// Which value a knob has here.
    #[must_use]
    pub fn value(&self, knob: KnobIndex) -> usize {
        self.0.get(knob.0).copied().unwrap_or(0)
    }

    /// This point with another value of one knob.
    #[must_use]
    pub fn with(&self, knob: KnobIndex, value: usize) -> Self {
        let mut point = self.clone();
        if let Some(place) = point.0.get_mut(knob.0) {
            *place = value;
        }
        point
    }
}
