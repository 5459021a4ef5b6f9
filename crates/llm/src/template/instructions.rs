//! Rewrites a compiled template so that every value it makes is looked at.
//!
//! The template engine counts steps, but one step can double a string. So after each instruction that makes a value
//! comes a call that takes its size from the rendering's means, and what could make much at once is done by functions
//! of ours instead. No template can name these functions: their names begin with a space.

use minijinja::Value;
use minijinja::machinery::{Instruction, Instructions};

/// Looks at a value and gives it back.
pub(super) const KEEP: &str = " keep";
/// `*`
pub(super) const MULTIPLY: &str = " multiply";
/// `~`
pub(super) const CONCATENATE: &str = " concatenate";

/// The same program, watched.
pub(super) fn watched<'source>(program: &Instructions<'source>) -> Instructions<'source> {
    let mut result = Instructions::new(program.name(), program.source());
    let mut places = Vec::new();
    let mut at = 0;
    while let Some(instruction) = program.get(at) {
        let line = program.get_line(at).and_then(|line| u16::try_from(line).ok()).unwrap_or_default();
        let mut put = |instruction| result.add_with_line(instruction, line);
        places.push(match instruction {
            Instruction::EmitRaw(text) => {
                let place = put(Instruction::LoadConst(Value::from(*text)));
                put(Instruction::Emit);
                place
            }
            Instruction::SetAttr(name) => {
                // The value lies below the namespace.
                let place = put(Instruction::Swap);
                put(Instruction::CallFunction(KEEP, Some(1)));
                put(Instruction::Swap);
                put(Instruction::SetAttr(name));
                place
            }
            Instruction::Mul => put(Instruction::CallFunction(MULTIPLY, Some(2))),
            Instruction::StringConcat => put(Instruction::CallFunction(CONCATENATE, Some(2))),
            instruction => {
                let place = put(instruction.clone());
                if makes_a_value(instruction) {
                    put(Instruction::CallFunction(KEEP, Some(1)));
                }
                place
            }
        });
        at += 1;
    }
    places.push(places.last().map_or(0, |_| end(&result)));
    retarget(&mut result, &places);
    result
}

fn makes_a_value(instruction: &Instruction<'_>) -> bool {
    matches!(
        instruction,
        Instruction::Add
            | Instruction::Slice
            | Instruction::ApplyFilter(..)
            | Instruction::PerformTest(..)
            | Instruction::CallFunction(..)
            | Instruction::CallMethod(..)
            | Instruction::CallObject(..)
            | Instruction::BuildList(..)
            | Instruction::BuildMap(..)
            | Instruction::In
            | Instruction::Eq
            | Instruction::Ne
    )
}

/// The place after the last instruction.
fn end(program: &Instructions<'_>) -> u32 {
    (0..).find(|&at| program.get(at).is_none()).unwrap_or_default()
}

/// Turns places in the old program into places in the new.
fn retarget(program: &mut Instructions<'_>, places: &[u32]) {
    let mut at = 0;
    while let Some(instruction) = program.get_mut(at) {
        if let Instruction::Iterate(target)
        | Instruction::Jump(target)
        | Instruction::JumpIfFalse(target)
        | Instruction::JumpIfFalseOrPop(target)
        | Instruction::JumpIfTrueOrPop(target)
        | Instruction::BuildMacro(_, target, _) = instruction
            && let Some(&place) = places.get(*target as usize)
        {
            *target = place;
        }
        at += 1;
    }
}
