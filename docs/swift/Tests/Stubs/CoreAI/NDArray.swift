public struct NDArrayDescriptor: Equatable, Sendable {
    public let shape: [Int]
    public let scalarType: NDArray.ScalarType

    public func resolvingDynamicDimensions(_ newShape: [Int]) -> NDArrayDescriptor {
        NDArrayDescriptor(shape: newShape, scalarType: scalarType)
    }
}

public struct NDArray: Sendable, InferenceValue.MutableViewRepresentable {
    public enum ScalarType: Sendable { case float16, int32 }

    public let shape: [Int]
    public let scalarType: ScalarType
    private var storage: Storage

    public init(descriptor: consuming NDArrayDescriptor) {
        precondition(descriptor.shape.allSatisfy { $0 >= 0 }, "a dimension is dynamic")
        shape = descriptor.shape
        scalarType = descriptor.scalarType
        storage = Storage(byteCount: shape.reduce(1, *) * (scalarType == .float16 ? 2 : 4))
        storage.bytes.initializeMemory(as: UInt8.self, repeating: 0xFF)  // not zeros: undefined
    }

    public init<Scalar: BitwiseCopyable>(scalars: some Sequence<Scalar>, shape: [Int]) {
        let scalars = Array(scalars)
        precondition(scalars.count == shape.reduce(1, *), "the shape is that of another number")
        self.shape = shape
        scalarType = MemoryLayout<Scalar>.size == 2 ? .float16 : .int32
        storage = Storage(byteCount: scalars.count * MemoryLayout<Scalar>.size)
        scalars.withUnsafeBytes { storage.bytes.copyMemory(from: $0) }
    }

    public func view<T: BitwiseCopyable>(as type: T.Type = T.self) -> View<T> {
        View(shape: shape, storage: storage)
    }

    @_lifetime(&self)
    public mutating func mutableView<T: BitwiseCopyable>(
        as type: T.Type = T.self
    ) -> MutableView<T> {
        makeUnique()
        return MutableView(scalars: storage.bytes.assumingMemoryBound(to: T.self))
    }

    @_lifetime(&self)
    public mutating func mutableView() -> InferenceValue.MutableView {
        makeUnique()
        return InferenceValue.MutableView(
            base: storage.bytes.baseAddress!, count: shape.reduce(1, *))
    }

    func scalars<T: BitwiseCopyable>(as type: T.Type) -> [T] {
        Array(storage.bytes.assumingMemoryBound(to: T.self))
    }

    private mutating func makeUnique() {
        if isKnownUniquelyReferenced(&storage) { return }
        let copy = Storage(byteCount: storage.bytes.count)
        copy.bytes.copyMemory(from: UnsafeRawBufferPointer(storage.bytes))
        storage = copy
    }

    // Apple's views do not escape; those of the stand-in keep the storage instead.
    public struct View<Element: BitwiseCopyable> {
        let shape: [Int]
        let storage: Storage

        public func withUnsafePointer<R, E: Error>(
            _ body: (UnsafePointer<Element>, Span<Int>, Span<Int>) throws(E) -> R
        ) throws(E) -> R {
            let scalars = storage.bytes.assumingMemoryBound(to: Element.self)
            return try body(scalars.baseAddress!.immutable, shape.span, shape.span)
        }
    }

    public struct MutableView<Element: BitwiseCopyable>: ~Copyable, ~Escapable {
        let scalars: UnsafeMutableBufferPointer<Element>

        @_lifetime(immortal)
        init(scalars: UnsafeMutableBufferPointer<Element>) { self.scalars = scalars }

        @_lifetime(self: copy self)
        public mutating func copyElements(fromContentsOf elements: some Collection<Element>) {
            _ = scalars.update(fromContentsOf: elements)
        }
    }

    final class Storage: @unchecked Sendable {
        let bytes: UnsafeMutableRawBufferPointer

        init(byteCount: Int) {
            bytes = .allocate(byteCount: byteCount, alignment: 16)
        }

        deinit { bytes.deallocate() }
    }
}

extension UnsafeMutablePointer {
    fileprivate var immutable: UnsafePointer<Pointee> { UnsafePointer(self) }
}
