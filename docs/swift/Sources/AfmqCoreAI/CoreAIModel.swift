#if canImport(CoreAI)
    import AfmqGeneration
    import CoreAI
    import Foundation

    /// The `.aimodel` of a Core AI bundle of `afmq export --to coreai`.
    ///
    /// A function takes any number of tokens, so a prompt is one call:
    ///
    ///     main(input_ids i32 [1, q], position_ids i32 [1, n]) -> logits f16 [1, q, vocabulary]
    ///
    /// n is the number of tokens of the text with those of the call. The states keyCache and
    /// valueCache belong to the caller. Their size is chosen for each text.
    @available(macOS 27.0, iOS 27.0, *)
    public actor CoreAIModel: LanguageModel {
        public nonisolated let adapters: [String]
        public nonisolated let contextLength: Int

        private let model: AIModel
        private var function: InferenceFunction?
        private var adapter: String?
        private var caches: Caches?
        private var text = Text.none
        private var capacity = 0
        private var position = 0

        /// Specializes a model for the device if that has not been done before. A function is
        /// loaded when a text begins.
        ///
        /// - Parameters:
        ///   - url: The `.aimodel`, or an `.aimodelc` that `coreai-build` compiled.
        ///   - contextLength: The context that the bundle declares, in tokens.
        /// - Throws: The errors of Core AI.
        public static func open(_ url: URL, contextLength: Int) async throws -> CoreAIModel {
            // Every length of a prompt and of the caches is another shape.
            var options = SpecializationOptions(preferredComputeUnitKind: .gpu)
            options.expectFrequentReshapes = true
            let model = try await AIModel(contentsOf: url, options: options)
            return CoreAIModel(model: model, contextLength: contextLength)
        }

        private init(model: AIModel, contextLength: Int) {
            self.model = model
            self.contextLength = contextLength
            adapters = FunctionNames.adapters(of: FunctionNames.main, among: model.functionNames)
        }

        public func begin(adapter: String?, capacity: Int) throws -> Text {
            let adapter = try FunctionNames.find(adapter, among: adapters)
            guard capacity <= contextLength else {
                throw ModelError.tooLong(tokens: capacity, context: contextLength)
            }
            let function = try function(of: adapter)
            caches = nil  // release those of the text before
            caches = try Caches(of: function.descriptor, capacity: capacity)
            self.capacity = capacity
            position = 0
            text = text.next
            return text
        }

        public func append(_ tokens: [Int32], to text: Text) async throws -> [Float] {
            guard !tokens.isEmpty else { throw ModelError.noTokens }
            // The caches are moved out of the actor while the function writes them, so a second
            // call in that time finds none.
            guard text == self.text, let function, var caches else { throw ModelError.textEnded }
            let length = position + tokens.count
            guard length <= capacity else {
                throw ModelError.tooLong(tokens: length, context: capacity)
            }
            self.caches = nil
            let logits = try await Self.run(
                function, tokens: tokens, length: length,
                keys: &caches.keys, values: &caches.values)
            guard text == self.text else { throw ModelError.textEnded }
            self.caches = caches
            position = length
            return logits
        }

        /// The function of an adapter. A function owns its weights, so the one before is released
        /// first.
        private func function(of adapter: String?) throws -> InferenceFunction {
            if let function, self.adapter == adapter { return function }
            function = nil
            let name = FunctionNames.name(FunctionNames.main, adapter: adapter)
            guard let loaded = try model.loadFunction(named: name) else {
                throw ModelError.missing("function \(name)", in: "the model")
            }
            function = loaded
            self.adapter = adapter
            return loaded
        }

        private static func run(
            _ function: InferenceFunction, tokens: [Int32], length: Int,
            keys: inout NDArray, values: inout NDArray
        ) async throws -> [Float] {
            var states = InferenceFunction.MutableViews()
            states.insert(&keys, for: Caches.keyName)
            states.insert(&values, for: Caches.valueName)
            var outputs = try await function.run(
                inputs: [
                    "input_ids": NDArray(scalars: tokens, shape: [1, tokens.count]),
                    "position_ids": NDArray(scalars: 0..<Int32(length), shape: [1, length]),
                ],
                states: states)
            guard let logits = outputs.remove("logits")?.ndArray, logits.scalarType == .float16
            else {
                throw ModelError.missing("fp16 output logits", in: "the function")
            }
            return lastRow(of: logits)
        }

        /// The logits of the last token. Arrays that a function returns are contiguous.
        private static func lastRow(of logits: NDArray) -> [Float] {
            let vocabulary = logits.shape[logits.shape.count - 1]
            let first = logits.shape.reduce(1, *) - vocabulary
            return logits.view(as: Float16.self).withUnsafePointer { scalars, _, _ in
                (first..<first + vocabulary).map { Float(scalars[$0]) }
            }
        }
    }
#endif
