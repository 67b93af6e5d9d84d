#if canImport(CoreML)
    import AfmqGeneration
    import CoreML
    import Foundation

    /// The loaded functions of the base, or of the base with one adapter.
    struct LoadedFunctions {
        let adapter: String?
        let decode: MLModel
        private let prefill: MLModel?
        /// Tokens that the function for chunks takes; nil if it is not loaded.
        let chunk: Int?

        init(
            of adapter: String?, in compiled: URL, computeUnits: MLComputeUnits, prefill: Bool
        ) throws {
            func load(_ function: String) throws -> MLModel {
                let configuration = MLModelConfiguration()
                configuration.computeUnits = computeUnits
                configuration.functionName = FunctionNames.name(function, adapter: adapter)
                return try MLModel(contentsOf: compiled, configuration: configuration)
            }
            self.adapter = adapter
            decode = try load(FunctionNames.decode)
            guard prefill else {
                self.prefill = nil
                chunk = nil
                return
            }
            let model = try load(FunctionNames.prefill)
            let input = model.modelDescription.inputDescriptionsByName["input_ids"]
            guard let shape = input?.multiArrayConstraint?.shape, shape.count == 2 else {
                throw ModelError.missing("input input_ids of rank 2", in: FunctionNames.prefill)
            }
            self.prefill = model
            chunk = shape[1].intValue
        }

        /// Runs the function that takes `size` tokens. Zeros follow the tokens that are given.
        func predict(
            _ tokens: [Int32], size: Int, position: Int, state: MLState
        ) throws -> Prediction {
            let padding = repeatElement(Int32(0), count: size - tokens.count)
            let input = try MLDictionaryFeatureProvider(dictionary: [
                "input_ids": feature(tokens + padding, shape: [1, size]),
                "position": feature([Int32(position)], shape: [1]),
            ])
            let model = size == 1 ? decode : prefill ?? decode
            return Prediction(output: try model.prediction(from: input, using: state))
        }

        private func feature(_ values: [Int32], shape: [Int]) -> MLFeatureValue {
            MLFeatureValue(shapedArray: MLShapedArray(scalars: values, shape: shape))
        }
    }

    /// What a call returned.
    struct Prediction {
        let output: any MLFeatureProvider

        /// The logits of one of the call's tokens: a row of [1, tokens, vocabulary].
        func logits(of token: Int) throws -> [Float] {
            guard
                let logits = output.featureValue(for: "logits")?.shapedArrayValue(of: Float16.self)
            else {
                throw ModelError.missing("fp16 output logits", in: "the function")
            }
            return logits[[0, token]].scalars.map(Float.init)
        }
    }
#endif
