//! ONNX's own operators that take values element by element.

use super::attributes::Attributes;
use super::layout::{Together, broadcast, combined};
use super::transform::logistic;
use super::value::{Array, Value};
use super::{Fault, Inputs, Run};

/// An arithmetic operator of two or more numbers. Computed in float64 and given in the type of the first.
fn arithmetic(float: fn(f64, f64) -> f64, int: fn(i64, i64) -> Option<i64>) -> Run {
    Box::new(move |inputs: &Inputs<'_>| {
        let mut all = inputs.given();
        let mut so_far = all.next().ok_or_else(|| Fault::new("it has no inputs"))?.clone();
        for next in all {
            so_far = match (&so_far.array, &next.array) {
                (Array::I64(a), Array::I64(b)) => {
                    let (shape, all) = combined((a, &so_far.shape), (b, &next.shape), |&a, &b| int(a, b))?;
                    let all: Option<Vec<i64>> = all.into_iter().collect();
                    let all = all.ok_or_else(|| Fault::new("integers beyond int64, or divided by 0"))?;
                    Value::new(shape, Array::I64(all))?
                }
                (array, _) => {
                    let (a, b) = (so_far.floats()?, next.floats()?);
                    let (shape, all) =
                        combined((&a, &so_far.shape), (&b, &next.shape), |&a, &b| float(a, b))?;
                    let array = array.alike(all);
                    Value::new(shape, array)?
                }
            };
        }
        Ok(vec![so_far])
    })
}

pub(super) fn add(_: &Attributes<'_>) -> Result<Run, Fault> {
    Ok(arithmetic(|a, b| a + b, i64::checked_add))
}

pub(super) fn sub(_: &Attributes<'_>) -> Result<Run, Fault> {
    Ok(arithmetic(|a, b| a - b, i64::checked_sub))
}

pub(super) fn mul(_: &Attributes<'_>) -> Result<Run, Fault> {
    Ok(arithmetic(|a, b| a * b, i64::checked_mul))
}

pub(super) fn div(_: &Attributes<'_>) -> Result<Run, Fault> {
    Ok(arithmetic(|a, b| a / b, i64::checked_div))
}

pub(super) fn max(_: &Attributes<'_>) -> Result<Run, Fault> {
    Ok(arithmetic(f64::max, |a, b| Some(a.max(b))))
}

pub(super) fn min(_: &Attributes<'_>) -> Result<Run, Fault> {
    Ok(arithmetic(f64::min, |a, b| Some(a.min(b))))
}

pub(super) fn pow(_: &Attributes<'_>) -> Result<Run, Fault> {
    Ok(arithmetic(f64::powf, |a, b| a.checked_pow(u32::try_from(b).ok()?)))
}

/// A comparison; strings know only equality.
fn comparison(of: fn(f64, f64) -> bool) -> Run {
    Box::new(move |inputs: &Inputs<'_>| {
        let (a, b) = (inputs.get(0)?, inputs.get(1)?);
        let (shape, all) = match (&a.array, &b.array) {
            (Array::Text(x), Array::Text(y)) => {
                combined((x, &a.shape), (y, &b.shape), |x, y| of(f64::from(u8::from(x != y)), 0.0))?
            }
            (Array::I64(x), Array::I64(y)) => {
                let order = |x: &i64, y: &i64| of(x.cmp(y) as i8 as f64, 0.0);
                combined((x, &a.shape), (y, &b.shape), order)?
            }
            _ => combined((&a.floats()?, &a.shape), (&b.floats()?, &b.shape), |&x, &y| of(x, y))?,
        };
        Ok(vec![Value::new(shape, Array::Bool(all))?])
    })
}

pub(super) fn equal(_: &Attributes<'_>) -> Result<Run, Fault> {
    Ok(comparison(|a, b| a == b))
}

pub(super) fn greater(_: &Attributes<'_>) -> Result<Run, Fault> {
    Ok(comparison(|a, b| a > b))
}

pub(super) fn greater_or_equal(_: &Attributes<'_>) -> Result<Run, Fault> {
    Ok(comparison(|a, b| a >= b))
}

pub(super) fn less(_: &Attributes<'_>) -> Result<Run, Fault> {
    Ok(comparison(|a, b| a < b))
}

pub(super) fn less_or_equal(_: &Attributes<'_>) -> Result<Run, Fault> {
    Ok(comparison(|a, b| a <= b))
}

fn logical(of: fn(bool, bool) -> bool) -> Run {
    Box::new(move |inputs: &Inputs<'_>| {
        let (a, b) = (inputs.get(0)?, inputs.get(1)?);
        let (Array::Bool(x), Array::Bool(y)) = (&a.array, &b.array) else {
            return Err(Fault::new("takes booleans"));
        };
        let (shape, all) = combined((x, &a.shape), (y, &b.shape), |&x, &y| of(x, y))?;
        Ok(vec![Value::new(shape, Array::Bool(all))?])
    })
}

pub(super) fn and(_: &Attributes<'_>) -> Result<Run, Fault> {
    Ok(logical(|a, b| a && b))
}

pub(super) fn or(_: &Attributes<'_>) -> Result<Run, Fault> {
    Ok(logical(|a, b| a || b))
}

pub(super) fn not(_: &Attributes<'_>) -> Result<Run, Fault> {
    Ok(Box::new(|inputs: &Inputs<'_>| {
        let value = inputs.get(0)?;
        let Array::Bool(all) = &value.array else { return Err(Fault::new("takes booleans")) };
        Ok(vec![Value::new(value.shape.clone(), Array::Bool(all.iter().map(|b| !b).collect()))?])
    }))
}

pub(super) fn is_nan(_: &Attributes<'_>) -> Result<Run, Fault> {
    Ok(Box::new(|inputs: &Inputs<'_>| {
        let value = inputs.get(0)?;
        let all = value.floats()?.into_iter().map(f64::is_nan).collect();
        Ok(vec![Value::new(value.shape.clone(), Array::Bool(all))?])
    }))
}

pub(super) fn choose(_: &Attributes<'_>) -> Result<Run, Fault> {
    Ok(Box::new(|inputs: &Inputs<'_>| {
        let (condition, yes, no) = (inputs.get(0)?, inputs.get(1)?, inputs.get(2)?);
        let Array::Bool(chooses) = &condition.array else {
            return Err(Fault::new("its condition is not boolean"));
        };
        let both = broadcast(&yes.shape, &no.shape)?.shape;
        let Together { shape, of_a: of_condition, .. } = broadcast(&condition.shape, &both)?;
        let of_yes = broadcast(&yes.shape, &shape)?.of_a;
        let of_no = broadcast(&no.shape, &shape)?.of_a;
        macro_rules! chosen {
            ($kind:ident, $yes:expr, $no:expr) => {{
                let places = of_condition.iter().zip(of_yes.iter().zip(&of_no));
                let all = places.filter_map(|(&c, (&y, &n))| {
                    if *chooses.get(c)? { $yes.get(y).cloned() } else { $no.get(n).cloned() }
                });
                Array::$kind(all.collect())
            }};
        }
        let array = match (&yes.array, &no.array) {
            (Array::F32(a), Array::F32(b)) => chosen!(F32, a, b),
            (Array::F64(a), Array::F64(b)) => chosen!(F64, a, b),
            (Array::I64(a), Array::I64(b)) => chosen!(I64, a, b),
            (Array::Bool(a), Array::Bool(b)) => chosen!(Bool, a, b),
            (Array::Text(a), Array::Text(b)) => chosen!(Text, a, b),
            _ => return Err(Fault::new("its inputs are of different types")),
        };
        Ok(vec![Value::new(shape, array)?])
    }))
}

/// A function of single numbers.
fn pointwise(of: impl Fn(f64) -> f64 + Send + Sync + 'static) -> Run {
    Box::new(move |inputs: &Inputs<'_>| {
        let value = inputs.get(0)?;
        let all = value.floats()?.into_iter().map(&of).collect();
        Ok(vec![Value::new(value.shape.clone(), value.array.alike(all))?])
    })
}

pub(super) fn abs(_: &Attributes<'_>) -> Result<Run, Fault> {
    Ok(pointwise(f64::abs))
}

pub(super) fn ceil(_: &Attributes<'_>) -> Result<Run, Fault> {
    Ok(pointwise(f64::ceil))
}

pub(super) fn exp(_: &Attributes<'_>) -> Result<Run, Fault> {
    Ok(pointwise(f64::exp))
}

pub(super) fn floor(_: &Attributes<'_>) -> Result<Run, Fault> {
    Ok(pointwise(f64::floor))
}

pub(super) fn log(_: &Attributes<'_>) -> Result<Run, Fault> {
    Ok(pointwise(f64::ln))
}

pub(super) fn neg(_: &Attributes<'_>) -> Result<Run, Fault> {
    Ok(pointwise(|x| -x))
}

pub(super) fn reciprocal(_: &Attributes<'_>) -> Result<Run, Fault> {
    Ok(pointwise(f64::recip))
}

pub(super) fn relu(_: &Attributes<'_>) -> Result<Run, Fault> {
    Ok(pointwise(|x| if x < 0.0 { 0.0 } else { x }))
}

pub(super) fn sigmoid(_: &Attributes<'_>) -> Result<Run, Fault> {
    Ok(pointwise(logistic))
}

pub(super) fn sign(_: &Attributes<'_>) -> Result<Run, Fault> {
    Ok(pointwise(|x| if x == 0.0 { 0.0 } else { x.signum() }))
}

pub(super) fn sqrt(_: &Attributes<'_>) -> Result<Run, Fault> {
    Ok(pointwise(f64::sqrt))
}

pub(super) fn tanh(_: &Attributes<'_>) -> Result<Run, Fault> {
    Ok(pointwise(f64::tanh))
}

pub(super) fn clip(attributes: &Attributes<'_>) -> Result<Run, Fault> {
    let (min, max) = (attributes.float("min")?, attributes.float("max")?);
    Ok(Box::new(move |inputs: &Inputs<'_>| {
        let bound = |at, attribute: Option<f32>| -> Result<Option<f64>, Fault> {
            match inputs.maybe(at) {
                Some(value) => Ok(value.floats()?.first().copied()),
                None => Ok(attribute.map(f64::from)),
            }
        };
        let (min, max) = (bound(1, min)?, bound(2, max)?);
        let value = inputs.get(0)?;
        let clipped = |x: f64| match (min, max) {
            (_, Some(max)) if x > max => max,
            (Some(min), _) if x < min => min,
            _ => x,
        };
        let all = value.floats()?.into_iter().map(clipped).collect();
        Ok(vec![Value::new(value.shape.clone(), value.array.alike(all))?])
    }))
}
