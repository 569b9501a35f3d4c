//! Any bytes as coded bytes of any coding: an error, or as many bytes as were asked for.
#![no_main]

use sparse_store::codec::Elements;
use sparse_store::codec::{
    self,
    residual::{Model, Prediction},
};
use store_format::record::{Coding, Predictor, Recipe};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    // One byte each for the coding and the lengths, then parameters, side information, the rest.
    let [coding, parameters, side, plain, rest @ ..] = bytes else {
        return;
    };
    let Ok(coding) = Coding::from_number(coding % 7) else {
        return;
    };
    let Some((parameters, rest)) = rest.split_at_checked(usize::from(parameters % 16)) else {
        return;
    };
    let Some((side, coded)) = rest.split_at_checked(usize::from(*side) * 4) else {
        return;
    };
    let plain = usize::from(*plain) * 64;
    let recipe = Recipe {
        predictor: Predictor::Base,
        ..Recipe::plain(coding, parameters.to_vec())
    };
    let model = Elements::from_parameters(parameters)
        .ok()
        .and_then(|elements| Model::parse(elements.shape, side).ok());
    let predicted = vec![7; plain];
    if let Ok(out) = codec::decode(&recipe, coded, Prediction::Same(&predicted), model.as_ref(), plain) {
        assert_eq!(out.len(), plain);
    }
});
