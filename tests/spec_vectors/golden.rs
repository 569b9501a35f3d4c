//! The golden records of predictors, rebuilt.

use std::fs;
use std::sync::Arc;

use sparse_store::codec;
use sparse_store::flow::predicted::{self, Place};
use sparse_store::flow::viewed::Pieces;
use sparse_store::predict::Recipe;
use store_format::ids::ChunkId;
use store_format::record::{Predictor, RecordHeader};
use store_format::verified::Verified;

use crate::testdata;

/// The golden records are made by hand; this is the program's word on them.
#[test]
fn golden_records_of_every_predictor_come_to_their_ids() {
    let numbers: Vec<u8> = [1.0_f32, 2.0, 3.0, 4.0]
        .iter()
        .flat_map(|number| number.to_le_bytes())
        .collect();
    for predictor in [
        Predictor::LowRank,
        Predictor::Adapter,
        Predictor::Gather,
        Predictor::Cast,
        Predictor::Linear,
        Predictor::Quantise,
        Predictor::Blockwise,
    ] {
        let name = format!("v1/record-{}.bin", predictor.name());
        let record = fs::read(testdata().join(&name)).expect("a golden file");
        let header = RecordHeader::decode(&record).expect("a header of nothing coded");
        let recipe = &header.recipe;
        let (first, place) = predicted::parse_parameters(&recipe.predictor_parameters)
            .expect("parameters of the predictor");
        let Place::Inline(bytes) = place else {
            panic!("{name}: the recipe is not inline");
        };
        let tensor = Recipe::parse(bytes).expect("a recipe");
        assert_eq!(tensor.to_bytes(), bytes, "{name}");
        assert_eq!(predicted::predictor_of(&tensor), predictor);
        let chunk = Arc::new(Verified::of(numbers.clone()));
        let mut sources = Pieces::default();
        for part in recipe.sources.iter().flat_map(|view| &view.parts) {
            assert_eq!(part.chunk, ChunkId::of(&numbers), "{name}");
            let start = part.start as usize;
            assert!(sources.add(Arc::clone(&chunk), start..start + part.bytes as usize));
        }
        let bytes = header.plain_bytes;
        let prediction = predicted::predict(&tensor, first, &sources, bytes, recipe.coding)
            .expect("a prediction");
        let plain = codec::decode(
            recipe,
            &[],
            prediction.as_prediction(),
            None,
            bytes as usize,
        );
        let id = ChunkId::of(&plain.expect("the plain bytes"));
        assert_eq!(header.id, id.into(), "{name}");
    }
}
