#if canImport(CoreML)
    import AfmqGeneration
    import CoreML
    import Foundation

    /// A Core ML package of `afmq export --to coreml`.
    ///
    /// Each function of a package is an `MLModel` of its own. This type holds those of one adapter,
    /// or of the base, and loads others when a text begins with another adapter. The compiled
    /// package stays, so a change of adapter compiles nothing.
    ///
    /// `MLModel` must be used by one queue at a time and its predictions block, so the actor runs
    /// on a queue of its own.
    public actor CoreMLModel: LanguageModel {
        public nonisolated let adapters: [String]
        public nonisolated let contextLength: Int

        private let compiled: URL
        private let configuration: Configuration
        private var functions: LoadedFunctions?
        private var state: MLState?
        private var text = Text.none
        private var capacity = 0
        private var position = 0

        private let queue = DispatchSerialQueue(label: "afmq.coreml")
        public nonisolated var unownedExecutor: UnownedSerialExecutor {
            queue.asUnownedSerialExecutor()
        }

        /// How functions are loaded.
        public struct Configuration: Sendable {
            public var computeUnits: MLComputeUnits
            /// False loads the functions for one token only. It needs less memory, makes long
            /// prompts slower, and never passes a state from one function to another.
            public var prefill: Bool

            public init(computeUnits: MLComputeUnits = .all, prefill: Bool = true) {
                self.computeUnits = computeUnits
                self.prefill = prefill
            }
        }

        /// Compiles a package if it has not been compiled before. Functions are loaded when a text
        /// begins.
        ///
        /// - Parameter package: `NAME.mlpackage` or `NAME.mlmodelc`.
        /// - Throws: The errors of Core ML, and ``ModelError/missing(_:in:)`` if the package is
        ///   none of afmq.
        public static func open(
            _ package: URL, configuration: Configuration = Configuration()
        ) async throws -> CoreMLModel {
            let compiled = try await CompiledPackages.standard.compiled(package)
            let asset = try MLModelAsset(url: compiled)
            let names = try await asset.functionNames
            let description = try await asset.modelDescription(of: FunctionNames.decode)
            return CoreMLModel(
                compiled: compiled, configuration: configuration,
                adapters: FunctionNames.adapters(of: FunctionNames.decode, among: names),
                contextLength: try contextLength(of: description, in: package))
        }

        private init(
            compiled: URL, configuration: Configuration, adapters: [String], contextLength: Int
        ) {
            self.compiled = compiled
            self.configuration = configuration
            self.adapters = adapters
            self.contextLength = contextLength
        }

        public func begin(adapter: String?, capacity: Int) throws -> Text {
            let adapter = try FunctionNames.find(adapter, among: adapters)
            guard capacity <= contextLength else {
                throw ModelError.tooLong(tokens: capacity, context: contextLength)
            }
            let functions = try functions(of: adapter)
            state = functions.decode.makeState()
            self.capacity = capacity
            position = 0
            text = text.next
            return text
        }

        public func append(_ tokens: [Int32], to text: Text) throws -> [Float] {
            guard text == self.text, let functions, let state else { throw ModelError.textEnded }
            guard position + tokens.count <= capacity else {
                throw ModelError.tooLong(tokens: position + tokens.count, context: capacity)
            }
            let plan = try PrefillPlan(
                count: tokens.count, position: position, chunk: functions.chunk,
                context: contextLength)
            var logits: [Float] = []
            for (index, step) in plan.steps.enumerated() {
                let prediction = try functions.predict(
                    Array(tokens[step.tokens]), size: step.size, position: position, state: state)
                position += step.tokens.count
                if index == plan.steps.count - 1 {
                    logits = try prediction.logits(of: step.tokens.count - 1)
                }
            }
            return logits
        }

        /// The functions of an adapter. Those of another are released first, so that the models of
        /// two adapters are never in memory together.
        private func functions(of adapter: String?) throws -> LoadedFunctions {
            if let functions, functions.adapter == adapter { return functions }
            state = nil
            functions = nil
            let loaded = try LoadedFunctions(
                of: adapter, in: compiled, computeUnits: configuration.computeUnits,
                prefill: configuration.prefill)
            functions = loaded
            return loaded
        }

        /// The tokens for which the caches, [layers, 1, kv_heads, context, head_dim], have room.
        private static func contextLength(
            of description: MLModelDescription, in package: URL
        ) throws -> Int {
            let shape = description.stateDescriptionsByName["keyCache"]?.stateConstraint?
                .bufferShape
            guard let shape, shape.count == 5 else {
                throw ModelError.missing("state keyCache of rank 5", in: package.path)
            }
            return shape[3]
        }
    }
#endif
