#if canImport(CoreAI)
    import AfmqGeneration
    import CoreAI

    /// The keys and values of a text, in arrays of the layout that a function prefers.
    @available(macOS 27.0, iOS 27.0, *)
    struct Caches: Sendable {
        static let keyName = "keyCache"
        static let valueName = "valueCache"

        var keys: NDArray
        var values: NDArray

        /// Caches of zeros with room for a number of tokens. They are rounded up to a multiple of
        /// 64, so that texts of similar lengths have caches of the same shape.
        init(of function: InferenceFunctionDescriptor, capacity: Int) throws {
            let tokens = (capacity + 63) / 64 * 64
            keys = try Self.zeros(Self.keyName, of: function, tokens: tokens)
            values = try Self.zeros(Self.valueName, of: function, tokens: tokens)
        }

        private static func zeros(
            _ name: String, of function: InferenceFunctionDescriptor, tokens: Int
        ) throws -> NDArray {
            guard case .ndArray(let descriptor) = function.stateDescriptor(of: name),
                descriptor.scalarType == .float16
            else {
                throw ModelError.missing("fp16 state \(name)", in: function.name)
            }
            let shape = descriptor.shape.map { $0 < 0 ? tokens : $0 }  // -1 is a dynamic dimension
            var array = NDArray(descriptor: descriptor.resolvingDynamicDimensions(shape))
            var view = array.mutableView(as: Float16.self)
            view.copyElements(
                fromContentsOf: repeatElement(Float16(0), count: shape.reduce(1, *)))
            return array
        }
    }
#endif
